"""Provenance on a real book: rides are settled, points are spent, refunded, given and expire; each leads to its act."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from backend.kernel.ids import TransactionId
from backend.ledger.attribution import UntraceableError
from backend.ledger.errors import TraceTooLargeError
from backend.ledger.model import BREAKAGE, POINTS, QUANTIFIED, RECOGNISED, TransactionKind
from backend.ledger.provenance import Provenance
from backend.stack import environment
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import (
    account,
    bus_ride,
    capture,
    citizen,
    earning,
    holding,
    owner,
    replay,
    reversal,
    shop,
    spending,
    transfer,
)
from tests.integration.conftest import ALL_SHARDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.ledger.model import Transaction
    from backend.ledger.provenance import Credit, Part
    from backend.runtime import Services
    from backend.settings import Settings

Kind = TransactionKind
RIDE = 40
TWO_YEARS = timedelta(days=800)
MISSING = TransactionId("tx_00000000000000000000000000000000")


@dataclass(frozen=True)
class Town:
    """Alice's five rides and bob's one, each on a day of its own, settled in their order."""

    services: Services
    provenance: Provenance
    alices: tuple[str, ...]
    bobs: tuple[str, ...]

    async def post(self, *transactions: Transaction) -> None:
        """Post them, a minute after one another."""
        for transaction in transactions:
            self.services.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
            await self.services.ledger.post(transaction)

    async def part(self, transaction: TransactionId, **given: Any) -> Part:
        """The only part of the transaction, traced back."""
        trace = await self.provenance.trace_back(transaction, **given)
        assert trace is not None
        [part] = trace.parts
        assert sum(origin.amount for origin in part.origins) == part.posting.amount
        return part

    async def acts(self, transaction: TransactionId, **given: Any) -> list[tuple[str | None, int]]:
        """The acts that the transaction's points came from, with their points."""
        return [(origin.action, origin.amount) for origin in (await self.part(transaction, **given)).origins]

    async def credit(self, transaction: TransactionId, **given: Any) -> Credit:
        """What became of what the transaction brought."""
        fate = await self.provenance.trace_forward(transaction, **given)
        assert fate is not None
        [credit] = fate.credits
        assert sum(use.amount for use in credit.uses) + credit.unspent == credit.posting.amount
        return credit

    async def earned(self, action: str) -> TransactionId:
        """The transaction that credited the act."""
        document = await self.services.database.find_one("ledger_transactions", {"cause.action": action})
        assert document is not None
        return TransactionId(document["_id"])


@pytest.fixture
async def town(services: Services) -> AsyncIterator[Town]:
    acts: dict[str, list[str]] = {"alice": [], "bob": []}
    for number, name in enumerate(("alice", "alice", "bob", "alice", "alice", "alice")):
        ride = bus_ride(f"ride-{number}", occurred_at=services.clock.now() - timedelta(days=9 - number))
        action = await services.actions.record(citizen(name), ride, key=f"key-{number:04}")
        # One by one, so that their order in the book is known.
        assert await services.settling.settle(ALL_SHARDS) == 1
        acts[name].append(action.id)
    yield Town(services, Provenance(services.database), tuple(acts["alice"]), tuple(acts["bob"]))
    assert (await replay(services)).findings == []


async def test_every_point_of_the_last_spend_is_traced_to_an_act(town: Town) -> None:
    one, two, three, four, five = town.alices
    first = spending("first", amount=70)
    gift = transfer("gift", amount=50)
    refund = reversal(first, "refund", (25,))
    second = spending("second", amount=60)
    last = spending("last", payer="bob", amount=90)
    await town.post(first, refund, second, gift, last)
    assert await town.acts(first.id) == [(one, 40), (two, 30)]
    assert await town.acts(refund.id) == [(two, 25)]
    # The ten points of the second ride that never left stand before the refunded ones.
    assert await town.acts(second.id) == [(two, 10), (three, 40), (four, 10)]
    assert await town.acts(gift.id) == [(four, 30), (five, 20)]
    assert await town.acts(last.id) == [(town.bobs[0], 40), (four, 30), (five, 20)]
    through = [origin.through for origin in (await town.part(last.id)).origins]
    assert through == [(), (gift.id,), (gift.id,)]

    ride = await town.earned(four)
    credit = await town.credit(ride)
    shown = [(use.transaction, use.to_account, use.amount) for use in credit.uses]
    assert shown == [(second.id, shop(), 10), (gift.id, account("bob"), 30)]
    assert [(use.transaction, use.amount, use.through) for use in credit.onward] == [(last.id, 30, (gift.id,))]
    credit = await town.credit(await town.earned(two))
    shown = [(use.transaction, use.to_account, use.amount) for use in credit.uses]
    assert shown == [(first.id, shop(), 30), (refund.id, account(), -25), (second.id, shop(), 10)]
    assert credit.unspent == 25
    assert (await town.credit(gift.id)).unspent == 0


async def test_what_is_captured_from_a_hold_and_what_expires_leads_to_its_acts(town: Town) -> None:
    clock = town.services.clock
    voucher = holding("voucher", amount=100, until=clock.now() + timedelta(hours=1))
    captured = capture(voucher, "captured", 60)
    await town.post(voucher, captured)
    assert await town.acts(captured.id) == [(town.alices[0], 40), (town.alices[1], 20)]
    clock.advance(TWO_YEARS)  # type: ignore[attr-defined]
    assert await town.services.expiry.expire_due(ALL_SHARDS) == 2
    kept = await town.credit(await town.earned(town.alices[1]))
    assert [(use.kind, use.to_account, use.amount) for use in kept.uses] == [
        (Kind.POST, shop(), 20),
        (Kind.EXPIRE, BREAKAGE, 20),
    ]
    expired = kept.uses[1].transaction
    assert await town.acts(expired) == [(town.alices[1], 20), *((act, 40) for act in town.alices[2:])]


async def test_grams_are_traced_like_points(town: Town) -> None:
    ride = await town.earned(town.alices[0])
    part = await town.part(ride, asset=RECOGNISED)
    assert [(origin.action, origin.amount) for origin in part.origins] == [(town.alices[0], 40_000)]
    credit = await town.credit(ride, asset=RECOGNISED)
    assert (credit.uses, credit.unspent) == ((), 40_000)
    trace = await town.provenance.trace_back(ride, asset=QUANTIFIED)
    assert trace is not None
    assert (trace.kind, trace.parts) == (Kind.EARN, ())


async def test_a_reader_learns_of_nobody_else(town: Town) -> None:
    gift, last = transfer("gift", amount=50), spending("last", payer="bob", amount=90)
    await town.post(gift, last)
    alice, bob = owner("alice"), owner("bob")
    assert await town.acts(last.id, reader=bob) == [(town.bobs[0], 40), (None, 50)]
    [_, received] = (await town.part(last.id, reader=bob)).origins
    assert (received.transaction, received.kind, received.through) == (gift.id, Kind.TRANSFER, ())
    assert await town.acts(gift.id, reader=alice) == [(town.alices[0], 40), (town.alices[1], 10)]
    [use] = (await town.credit(await town.earned(town.alices[0]), reader=alice)).uses
    assert (use.transaction, use.to_account, use.amount) == (gift.id, "citizen:*:points", 40)
    for stranger in (alice, owner("carol")):
        assert await town.provenance.trace_back(last.id, reader=stranger) is None
        assert await town.provenance.trace_forward(last.id, reader=stranger) is None
        assert await town.provenance.trace(last.id, reader=stranger) is None


async def test_a_missing_transaction_and_a_copy_of_one_have_no_trace(town: Town) -> None:
    gift = transfer("gift", amount=50)
    await town.post(gift)
    for unknown in (MISSING, TransactionId(f"{gift.id}@{owner('bob')}"), TransactionId("")):
        assert await town.provenance.trace(unknown) is None


async def test_both_ways_at_once_tell_the_same_and_change_nothing(town: Town) -> None:
    gift = transfer("gift", amount=50)
    await town.post(gift, spending("last", payer="bob", amount=60))
    before = await dump(town.services)
    both = await town.provenance.trace(gift.id)
    assert both == (await town.provenance.trace_back(gift.id), await town.provenance.trace_forward(gift.id))
    assert await dump(town.services) == before


async def test_a_trace_that_takes_too_much_is_refused_with_its_limit(town: Town) -> None:
    last = spending("last", amount=200)
    await town.post(last)
    narrow = Provenance(town.services.database, limit=10)
    for trace in (narrow.trace_back, narrow.trace_forward, narrow.trace):
        with pytest.raises(TraceTooLargeError) as caught:
            await trace(last.id if trace != narrow.trace_forward else await town.earned(town.alices[0]))
        assert (caught.value.limit, caught.value.unit.en) == (10, "steps")


async def test_only_the_transactions_up_to_the_traced_one_are_read_to_go_back(town: Town) -> None:
    first = spending("first", amount=70)
    await town.post(first, *(earning(f"later-{number}", amount=1) for number in range(50)))
    narrow = Provenance(town.services.database, limit=40)
    trace = await narrow.trace_back(first.id)
    assert trace == await town.provenance.trace_back(first.id)
    with pytest.raises(TraceTooLargeError):
        await narrow.trace(first.id)


async def test_an_accounts_transactions_are_read_in_order_by_one_index(town: Town) -> None:
    query = {"owner": owner(), "lines.asset": POINTS, "at": {"$lte": town.services.clock.now()}}
    find = {"find": "ledger_transactions", "filter": query, "sort": {"at": 1, "sequence": 1}}
    explained = await town.services.database.raw.command("explain", find, verbosity="queryPlanner")
    stages = []
    stage = explained["queryPlanner"]["winningPlan"]
    while stage is not None:
        stages.append((stage["stage"], stage.get("indexName")))
        stage = stage.get("inputStage")
    assert stages == [("FETCH", None), ("IXSCAN", "owner_asset_at")]


async def test_a_damaged_book_is_named_rather_than_traced(services: Services) -> None:
    await services.ledger.post(earning(amount=10))
    spend = spending(amount=4)
    await services.ledger.post(spend)
    raw = services.database.raw["ledger_transactions"]
    document = await raw.find_one({"_id": spend.id})
    assert document is not None
    document["lines"][0]["balance"] += 1
    await raw.replace_one({"_id": spend.id}, document, bypass_document_validation=True)
    LEDGER_WATCH.strays.clear()
    with pytest.raises(UntraceableError) as caught:
        await Provenance(services.database).trace_back(spend.id)
    assert str(caught.value) == f"{spend.id}: {account()} has 6, not 7"


async def test_transactions_of_one_post_are_traced_in_their_sequence(services: Services) -> None:
    """At one and the same moment the sequence alone tells which was first."""
    batch = [earning(f"earn-{number}", amount=10) for number in range(5)]
    spend = dataclasses.replace(spending(amount=35), key="spend")

    async def body(tx: Any) -> None:
        await services.ledger.post_within(tx, [*batch, spend], at=services.clock.now())

    await services.settling._transactions.run(body)
    trace = await Provenance(services.database).trace_back(spend.id)
    assert trace is not None
    [part] = trace.parts
    expected = [(one.id, 10) for one in batch[:3]] + [(batch[3].id, 5)]
    assert [(origin.transaction, origin.amount) for origin in part.origins] == expected


async def test_the_command_prints_both_ways_and_names_what_is_missing(town: Town, settings: Settings) -> None:
    gift = transfer("gift", amount=50)
    await town.post(gift, spending("last", payer="bob", amount=60))
    one, two = town.alices[:2]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "backend.cli", "ledger", "trace", *arguments]
        shown = {**environment(settings), "COLUMNS": "300"}
        return subprocess.run(command, env=shown, capture_output=True, text=True, check=False)

    told = await asyncio.to_thread(run, gift.id, "--json")
    assert (told.returncode, told.stderr.strip()) == (0, "")
    found = orjson.loads(told.stdout)
    assert (found["transaction"], found["kind"], found["asset"]) == (gift.id, "TRANSFER", "points")
    [part], [credit] = found["parts"], found["credits"]
    assert [(row["action"], row["amount"]) for row in part["origins"]] == [(one, 40), (two, 10)]
    assert ([row["amount"] for row in credit["uses"]], credit["unspent"]) == ([20], 30)
    shown = await asyncio.to_thread(run, await town.earned(one))
    assert shown.returncode == 0
    assert "40 points from programme:issuance to citizen:alice:points, of which 0 are there still" in shown.stdout
    assert all(text in shown.stdout for text in (one, gift.id, "and from there", "citizen:bob:points"))
    missing = await asyncio.to_thread(run, MISSING)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert f"no transaction {MISSING}" in missing.stderr
