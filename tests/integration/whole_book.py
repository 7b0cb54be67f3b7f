"""A book in which everything has happened, sealed over several days; and all ways of changing a place of a document."""

from __future__ import annotations

import copy
import dataclasses
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from bson import Int64

from backend.actions.invariants import ActionsAudit
from backend.actions.model import RuleRef
from backend.ledger.audit.whole import audit_ledger
from backend.ledger.model import RECOGNISED, TransactionKind
from backend.mongo.batches import encode
from tests.factories import (
    ADMIN,
    account,
    adjustment,
    bus_ride,
    capture,
    citizen,
    holding,
    payout,
    release,
    reversal,
    settlement,
    shop,
    spending,
    transfer,
)
from tests.integration.conftest import ALL_SHARDS
from tests.integration.drafting import BUS, begin, published
from tests.simulation.chance import IS_NIGHTLY
from tests.trading import market_life

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backend.kernel.clock import ManualClock
    from backend.ledger.audit.findings import Audit
    from backend.ledger.model import Transaction
    from backend.mongo.client import Document
    from backend.runtime import Services

Path = tuple[str | int, ...]


async def audit_acts(services: Services) -> Audit:
    """The audit of book, seals and acts: what this book settles and pays out is of no statement."""
    async with services.database.snapshot() as snapshot:
        explains = ActionsAudit(snapshot, services.rules.book, services.programme.zone)
        return await audit_ledger(snapshot, policy=services.programme.points_policy, explains=explains)


async def write_whole_book(services: Services, clock: ManualClock) -> None:
    """Earn, restate, hold, post, void, lapse, spend, give, adjust, lend, repay, correct, expire, settle, trade."""

    async def post(*transactions: Transaction) -> None:
        for transaction in transactions:
            await services.ledger.post(transaction)

    rides = [("alice", "one"), ("alice", "two"), ("bob", "three"), ("bob", "one"), ("carol", "four")]
    for name, ref in rides:
        occurred_at = clock.now() - timedelta(hours=1)
        await services.actions.record(
            citizen(name), bus_ride(ref, occurred_at=occurred_at, attributes={"line": "9"}), key=f"key-{name}-{ref}"
        )
    await services.settling.settle(ALL_SHARDS)
    await _restate(services, clock)
    soon = clock.now() + timedelta(hours=2)
    held = [holding(f"hold-{number}", amount=number, until=soon) for number in range(1, 5)]
    gift, spent = transfer(amount=12), spending(amount=9)
    await post(*held, gift, spent, capture(held[3], "post-a", 1, final=False), capture(held[3], "post-b", 2))
    await post(release(held[2]), reversal(gift, "back-1", (5,)), reversal(gift, "back-2", (4,)))
    await post(adjustment(7, "gift-1"), adjustment(-1_000, "fine-1", "bob"), adjustment(90, "gift-2", "bob"))
    await post(settlement(points=6, fen=54, commission=2), payout(fen=52))
    await post(*market_life(until=clock.now() + timedelta(days=2)))
    await services.sealing.seal_now()
    clock.advance(timedelta(days=1))
    # The holds nobody ended lapse, and one more outlives its lot.
    await services.expiry.expire_due(ALL_SHARDS)
    later = clock.now() + timedelta(days=2_000)
    grams = holding("hold-grams", account("alice", RECOGNISED), shop("shop", RECOGNISED), 3, until=later)
    await post(reversal(spent, "back-3", (3,)), holding("hold-long", amount=2, until=later), grams)
    await services.sealing.seal_now()
    clock.advance(timedelta(days=800))
    await services.expiry.expire_due(ALL_SHARDS)
    await services.sealing.seal_now()
    await post(adjustment(50, "gift-3"), spending("spend-2", amount=4), transfer("pay-2", amount=6))
    await post(adjustment(8, "gift-4", "dora"))
    await services.actions.record(
        citizen("carol"), bus_ride("five", occurred_at=clock.now() - timedelta(hours=1)), key="key-carol-five"
    )


async def _restate(services: Services, clock: ManualClock) -> None:
    """The bus ride's rule turns out to give a gram too little."""
    now = clock.now()
    wording = {**BUS, "formula": {"family": "PER_QUANTITY", "rate": "82000/1"}}
    await published(services, await begin(services, wording), valid_from=now - timedelta(days=1))
    period = now - timedelta(hours=2), now
    restating = services.restating
    job = await restating.propose(ADMIN, RuleRef("R-BUS2", 2), *period, "a test", dry_run=False, key="restate-0001")
    await restating.work_off()
    other = dataclasses.replace(ADMIN, id="ruth")
    await restating.approve(other, job.id, key="approve-0001")
    await restating.work_off()


class Forgery(NamedTuple):
    """A document with one place changed, and how."""

    path: Path
    way: str
    document: Document


def shape_of(collection: str, document: Mapping[str, Any], path: Path) -> tuple[Any, ...]:
    """What places have in common that one test is enough for; at night each kind and status for itself."""
    role = (bool(document.get("copy_of")), *((document.get("kind"), document.get("status")) if IS_NIGHTLY else ()))
    return collection, role, *("#" if isinstance(step, int) else step for step in path)


def paths(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place of a document with its value, inner ones after outer ones."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:2]):
            yield from paths(inner, (*path, number))


def forgeries(document: Document, path: Path, value: Any) -> Iterator[Forgery]:
    """The document with that place changed in every way there is."""
    for way, other in sorted(_others(value), key=lambda found: found[0] == "nothing"):
        forged = copy.deepcopy(document)
        _put(forged, path, other)
        if encode(forged) != encode(document):
            yield Forgery(path, way, forged)
    forged = copy.deepcopy(document)
    inner: Any = forged
    for step in path[:-1]:
        inner = inner[step]
    if path != ("_id",):
        del inner[path[-1]]
        yield Forgery(path, "removed", forged)


def _others(value: Any) -> Iterator[tuple[str, Any]]:
    if value is None:
        yield "something instead of nothing", "x"
        return
    yield "nothing", None
    if isinstance(value, bool):
        yield "turned", not value
    elif isinstance(value, int):
        yield "one more", Int64(value + 1)
        yield "a float", float(value)
        yield "a shorter integer", int(value) % 2**31
    elif isinstance(value, str):
        yield "another text", ("0" if value[:1] != "0" else "1") + value[1:]
        yield "a longer text", value + "0"
        yield "a number", 5
    elif isinstance(value, datetime):
        yield "a millisecond later", value + timedelta(milliseconds=1)
        yield "a number", Int64(value.timestamp() * 1000)
    elif isinstance(value, bytes):
        yield "a bit", bytes([value[0] ^ 1]) + value[1:] if value else b"x"
        yield "shorter", value[:-1]
    elif isinstance(value, list):
        yield from _other_lists(value)
    elif isinstance(value, dict):
        yield "one field more", {**value, "zzz": "x"}
        yield "no document", "x"


def _other_lists(value: list[Any]) -> Iterator[tuple[str, Any]]:
    yield "no list", "x"
    if value:
        yield "the last one twice", [*value, copy.deepcopy(value[-1])]
        yield "without the first", value[1:]
    if len(value) > 1 and value[0] != value[1]:
        yield "in another order", [value[1], value[0], *value[2:]]


def _put(document: Document, path: Path, value: Any) -> None:
    inner: Any = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value


KINDS = frozenset(TransactionKind)
