"""The market: reductions are pooled, verified, issued as credits, traded and retired.

Words. *Scenario*: kinds of acts that are pooled together (``transit``, ``cycling``). *Vintage*: the calendar year the
acts happened in. *Batch*: quantified grams of one scenario, profile and period, gathered from citizens who authorised
it. *Contribution*: what one citizen gave to one batch. *Pool*: the owner of what contributors of a batch own together.
*Credit*: one gram of an issued batch; its *serial* is its number in the batch, from 1. *Range*: serials in a row.
*Instrument*: the credits of one batch as they are traded. *Order*: an offer to buy or sell; the amount it may need is
reserved by a hold. *Fill*: what two orders exchange. *Retirement*: credits leave for ever, for a beneficiary and
purpose; its *certificate* says so.
"""
