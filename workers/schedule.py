"""What runs by the clock: each run finds by itself what is to be done, so a missed one costs nothing but time."""

from __future__ import annotations

SCHEDULE = {
    "find forgotten actions": {"task": "actions.sweep", "schedule": 2.0, "options": {"expires": 2.0}},
    "end holds and lots": {"task": "ledger.expire", "schedule": 5.0, "options": {"expires": 5.0}},
    "match forgotten orders": {"task": "market.sweep", "schedule": 1.0, "options": {"expires": 1.0}},
    "seal": {"task": "ledger.seal", "schedule": 5.0, "options": {"expires": 5.0}},
    "audit new blocks": {"task": "audit.follow", "schedule": 60.0, "options": {"expires": 60.0}},
    "find forgotten back-tests": {"task": "backtests.sweep", "schedule": 5.0, "options": {"expires": 5.0}},
    "restate acts": {"task": "actions.restate", "schedule": 5.0, "options": {"expires": 5.0}},
    "call merchants' systems": {"task": "webhooks.deliver", "schedule": 2.0, "options": {"expires": 2.0}},
    "return units and end vouchers": {"task": "rewards.sweep", "schedule": 5.0, "options": {"expires": 5.0}},
    "make merchants' statements": {"task": "settlement.close", "schedule": 300.0, "options": {"expires": 300.0}},
    "return benefits": {"task": "market.benefits", "schedule": 5.0, "options": {"expires": 5.0}},
    "end overdue payouts": {"task": "market.funds", "schedule": 60.0, "options": {"expires": 60.0}},
    "gather and issue batches": {"task": "market.gather", "schedule": 5.0, "options": {"expires": 5.0}},
    "go on with neutralisations": {"task": "market.neutralise", "schedule": 5.0, "options": {"expires": 5.0}},
    "empty the outbox": {"task": "outbox.drain", "schedule": 5.0, "options": {"expires": 5.0}},
}
