"""Calls to merchants' systems about what happened, by the Standard Webhooks convention (standardwebhooks.com).

*Endpoint*: where a merchant wants to be called, about which types of events. *Delivery*: one event on its way to one
endpoint, tried until it is taken or *dead*; a dead one can be *replayed*. *Secret*: what the calls to an endpoint are
signed with; for a day after it is *rotated* they are signed with the new and the previous one.

Deliveries may arrive more than once and out of order: ``webhook-id`` names the event.
"""
