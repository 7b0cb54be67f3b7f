"""What runs by the clock: it only finds work that a lost message forgot, so a missed run costs nothing."""

from __future__ import annotations

SCHEDULE = {
    "find forgotten actions": {"task": "actions.sweep", "schedule": 2.0, "options": {"expires": 2.0}},
    "empty the outbox": {"task": "outbox.drain", "schedule": 5.0, "options": {"expires": 5.0}},
}
