"""Drafts of the bus ride's rule, the way to its publication, and what refuses it, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import Refusal
from backend.rules.drafts import Step, Subject
from backend.rules.steps import Order
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from backend.rules.drafts import Draft
    from backend.runtime import Services

ANN, BEN = "staff:ann", "staff:ben"
BUS = {"rule": "R-BUS2"}
FLAT = {"family": "PER_QUANTITY", "rate": "70000/1"}
TRAM = {
    "code": "tram",
    "unit": "METRE",
    "category": "transit",
    "name_zh": "有轨电车",
    "name_en": "Tram",
    "maximum": 100_000,
}
TRAM_RULE = {
    "rule": "R-TRAM",
    "kind": "tram",
    "methodology": "SZ-TRAVEL-2021",
    "formula": {"family": "PER_QUANTITY", "rate": "30/1"},
    "quantified": True,
    "full_credit_tier": "OPERATOR",
    "minimum": 300,
    "maximum": 60_000,
    "bounds_basis": "test",
    "caps": [],
    "confidence": "MEDIUM",
    "note_zh": "试验用",
    "note_en": "for a test",
}


def order(draft: Draft, actor: str = ANN, key: str | None = None, **changes: Any) -> Order:
    """The next step with the draft as it is, under a key of its own."""
    given = {"draft": draft.id, "seen": draft.revision, **changes}
    return Order(actor=actor, key=key or f"{draft.id}-{draft.revision}", **given)


async def begin(
    services: Services, changes: Mapping[str, Any] | None = None, subject: Subject = Subject.RULE, **given: Any
) -> Draft:
    """Ann's draft of another wording of the bus ride's rule."""
    changes = {**BUS, "formula": FLAT} if changes is None else changes
    return await services.lifecycle.draft(given.pop("actor", ANN), subject, changes, **{"key": "key-0001", **given})


async def submitted(services: Services, draft: Draft) -> Draft:
    """Validated and submitted by Ann."""
    draft = await services.lifecycle.validate(order(draft))
    assert draft.problems == ()
    return await services.lifecycle.submit(order(draft), why_untested="a test")


async def approved(services: Services, draft: Draft) -> Draft:
    """Validated and submitted by Ann, approved by Ben."""
    return await services.lifecycle.approve(order(await submitted(services, draft), BEN))


async def published(services: Services, draft: Draft, **period: Any) -> Draft:
    """Brought all the way into the rule book."""
    return await services.lifecycle.publish(order(await approved(services, draft)), **period)


async def refusal(services: Services, asked: Awaitable[Any]) -> Refusal:
    """The refusal, which changed nothing."""
    before = await dump(services)
    with pytest.raises(Refusal) as caught:
        await asked
    assert await dump(services) == before
    return caught.value


async def log(services: Services) -> list[tuple[str, Step, str]]:
    """Who did what, why, from the first step on; without what came with the software."""
    entries = await services.lifecycle.list_log(None, limit=100, older=None, newer=None, newest=True)
    return [(entry.actor, entry.step, entry.reason) for entry in reversed(entries) if entry.step is not Step.SHIP]
