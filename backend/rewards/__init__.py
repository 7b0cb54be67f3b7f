"""What points buy: merchants, offers, vouchers, the stock behind them, settlement, calls to merchants' systems.

*Merchant*: a firm with shops that hands things over for points; *member*: somebody who works there, as owner or
cashier. *Contract*: at what rate (fen a point) the programme pays a merchant, which commission it keeps, how often it
settles. *Offer*: what a merchant hands over, for how many points, to whom, when, how often. *Pot*: units of which so
many exist: an offer's stock, a day's stock, a merchant's budget of a period. *Voucher*: one redemption, held points and
a code, until it is *captured* (handed over, in whole or item by item), *cancelled* by its citizen or over; a capture
can be *refunded*. *Bearer*: who bears the cost of an offer, programme or merchant. *Donation*: points given to a cause.
*Partner code*: a code of a third party, of which each voucher gets one. *Statement*: what a merchant is owed for a
period.

Each room is its own package: ``merchants`` → ``offers`` and ``stock`` → ``vouchers`` → ``settlement``; ``webhooks``
tells merchants' systems what happened.
"""
