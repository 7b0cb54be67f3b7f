"""Sealing on a real server: everything that waits is sealed once, in a chain that anybody can follow to the end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend.kernel.clock import ManualClock
from backend.kernel.crypto import load_signing_key
from backend.ledger.sealing import canonical, receipts
from backend.ledger.sealing.model import NO_BLOCK, SealBrokenError, UnsealableReason
from backend.ledger.sealing.service import Sealing
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import capture, earning, holding, owner, payout, release, reversal, settlement, spending, transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backend.ledger.model import OwnerId, Transaction
    from backend.ledger.sealing.model import Block, Receipt
    from backend.ledger.sealing.store import SealReads
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

# 16:00 in Shanghai.
AFTERNOON = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(AFTERNOON)


def sealer(services: Services, *, size: int = 10_000, load: Callable[[], Ed25519PrivateKey] | None = None) -> Sealing:
    """Another sealer of the same book, as a second process or one started later has it."""
    return Sealing(
        services.database,
        services.settling._transactions,
        services.clock,
        programme=services.programme.code,
        zone=services.programme.zone,
        load_key=load or (lambda: load_signing_key(services.settings.keys_dir / "sealing.pem")),
        block_size=size,
    )


async def earn(services: Services, count: int, prefix: str = "earn") -> list[Transaction]:
    """So many earnings, each in a MongoDB transaction of its own."""
    made = [earning(f"{prefix}-{number}", f"citizen-{number}", 1 + number) for number in range(count)]
    for transaction in made:
        await services.ledger.post(transaction)
    return made


async def tampered(
    services: Services, collection: str, query: dict[str, Any], change: dict[str, Any] | None
) -> dict[str, Any]:
    """Change or delete one document past the ledger; returns it as it was."""
    raw = services.database.raw[collection]
    original = await raw.find_one(query)
    assert original is not None
    if change is None:
        await raw.delete_one(query)
    else:
        await raw.update_one(query, change, bypass_document_validation=True)
    assert await raw.find_one(query) != original
    LEDGER_WATCH.strays.clear()
    return original


async def restored(services: Services, collection: str, original: dict[str, Any]) -> None:
    """Put a document back."""
    await services.database.raw[collection].replace_one({"_id": original["_id"]}, original, upsert=True)
    LEDGER_WATCH.strays.clear()


async def chain(sealing: Sealing) -> list[Block]:
    """Every block, each checked as successor of the one before."""
    found: list[Block] = []
    while block := await sealing.find_block(len(found) + 1):
        found.append(block)
    assert [block.header.height for block in found] == list(range(1, len(found) + 1))
    for before, after in pairwise(found):
        assert after.header.previous == before.hash
        assert after.header.sealed_at >= before.header.sealed_at
    return found


def text_of(receipt: Receipt | None) -> bytes:
    assert receipt is not None
    return canonical.canonical_bytes(canonical.receipt_object(receipt))


async def assert_all_proven(services: Services, transactions: Sequence[Transaction]) -> None:
    """Every one of them has a receipt that holds in the published day of its block."""
    for transaction in transactions:
        receipt = await services.sealing.find_receipt(transaction.id, None)
        assert receipt is not None
        day = await services.sealing.day_document(receipt.block.day)
        assert day is not None
        verdict = receipts.verify(text_of(receipt), day.text)
        assert verdict.failures == ()
        assert (verdict.transaction, verdict.is_final) == (transaction.id, day.is_final)


async def test_nothing_waits_in_an_empty_book(services: Services) -> None:
    assert await services.sealing.seal_due() == await services.sealing.seal_now() == 0
    assert await services.sealing.find_block(1) is None
    assert await services.sealing.list_days() == []
    assert await services.sealing.day_document(date(2026, 11, 21)) is None
    assert not (services.settings.keys_dir / "sealing.pem").exists()


async def test_every_kind_of_transaction_gets_a_receipt(services: Services, clock: ManualClock) -> None:
    first = earning(amount=200)
    hold, other = holding(until=clock.now() + timedelta(hours=1)), holding("hold-2", until=clock.now() + timedelta(1))
    spent = spending(amount=20)
    settled = replace(settlement(), cause={"merchant": "shop", "note": "结算“一”"})
    made = [
        first,
        hold,
        capture(hold, amount=4, final=False),
        release(hold),
        other,
        release(other, "void-2"),
        spent,
        reversal(spent, amounts=(5,)),
        transfer(amount=30),
        settled,
        payout(),
    ]
    for transaction in made:
        await services.ledger.post(transaction)
    waiting = await services.sealing.backlog()
    assert (waiting.transactions, waiting.since) == (11, AFTERNOON)
    assert await services.sealing.find_receipt(first.id, None) is None
    assert await services.sealing.seal_now() == 1
    assert (await services.sealing.backlog()).transactions == 0
    [block] = await chain(services.sealing)
    assert (block.header.previous, block.header.size, block.header.programme) == (NO_BLOCK, 11, "zhenjiang")
    await assert_all_proven(services, made)
    stored = await dump(services)
    assert stored["ledger_unsealed"] == []
    assert [leaves["transactions"] for leaves in stored["ledger_leaves"]] == [
        sorted(bytes.fromhex(transaction.id[3:]) for transaction in made)
    ]
    assert await services.sealing.seal_now() == 0
    assert await dump(services) == stored


async def test_what_waits_is_sealed_after_a_minute_or_when_it_fills_a_block(
    services: Services, clock: ManualClock
) -> None:
    sealing = sealer(services, size=3)
    await earn(services, 2)
    assert await sealing.seal_due() == 0
    clock.advance(timedelta(seconds=59, milliseconds=999))
    assert await sealing.seal_due() == 0
    clock.advance(timedelta(milliseconds=1))
    assert await sealing.seal_due() == 1
    await earn(services, 7, "more")
    assert await sealing.seal_due() == 2
    assert (await sealing.backlog()).transactions == 1
    assert await sealing.seal_now() == 1
    assert [block.header.size for block in await chain(sealing)] == [2, 3, 3, 1]


async def test_transactions_that_committed_together_are_sealed_together(services: Services, clock: ManualClock) -> None:
    sealing = sealer(services, size=3)
    await earn(services, 1)
    together = [earning(f"batch-{number}", f"citizen-{number}") for number in range(5)]

    async def body(tx: Tx) -> None:
        await services.ledger.post_within(tx, together, at=clock.now())

    await services.settling._transactions.run(body)
    assert await sealing.seal_now() == 1
    assert [block.header.size for block in await chain(sealing)] == [6]


async def test_a_late_commit_lands_in_the_next_block(services: Services, clock: ManualClock) -> None:
    [early] = await earn(services, 1)
    await services.sealing.seal_now()

    async def body(tx: Tx) -> None:
        await services.ledger.post_within(tx, [late], at=clock.now() - timedelta(hours=2))

    late = earning("late", "bob")
    await services.settling._transactions.run(body)
    # Waiting since before the first block was made, by its own time: due at once.
    assert await services.sealing.seal_due() == 1
    assert [block.header.size for block in await chain(services.sealing)] == [1, 1]
    await assert_all_proven(services, [early, late])


async def test_time_never_runs_backwards_along_the_chain(services: Services, clock: ManualClock) -> None:
    await earn(services, 1)
    await services.sealing.seal_now()
    clock.advance(timedelta(days=-3))
    await earn(services, 1, "again")
    assert await services.sealing.seal_now() == 1
    first, second = await chain(services.sealing)
    assert second.header.sealed_at == first.header.sealed_at == AFTERNOON
    assert second.day == first.day


async def test_a_day_becomes_final_at_the_first_run_of_the_next(services: Services, clock: ManualClock) -> None:
    made = await earn(services, 2)
    await services.sealing.seal_now()
    running = await services.sealing.day_document(date(2026, 11, 21))
    assert running is not None
    assert not running.is_final
    # 23:59:59 in Shanghai.
    clock.current = AFTERNOON + timedelta(hours=7, minutes=59, seconds=59)
    assert await services.sealing.seal_due() == 0
    clock.advance(timedelta(seconds=1))
    assert await services.sealing.seal_due() == 1
    assert await services.sealing.seal_due() == 0
    _, empty = await chain(services.sealing)
    assert (empty.day, empty.header.size) == (date(2026, 11, 22), 0)
    final = await services.sealing.day_document(date(2026, 11, 21))
    assert final is not None
    assert final.is_final
    assert [len(json.loads(document.text)["blocks"]) for document in (running, final)] == [1, 1]
    # The sealer was away for three days: they have no blocks, and the day before them is final all the same.
    clock.advance(timedelta(days=4))
    made += await earn(services, 1, "later")
    assert await services.sealing.seal_due() == 1
    days = await services.sealing.list_days()
    assert [(day.date.isoformat(), day.is_final, day.first, day.last) for day in days] == [
        ("2026-11-21", True, 1, 1),
        ("2026-11-22", True, 2, 2),
        ("2026-11-26", False, 3, 3),
    ]
    assert await services.sealing.day_document(date(2026, 11, 23)) is None
    again = await services.sealing.day_document(date(2026, 11, 21))
    assert again == final
    for day in days:
        document = await services.sealing.day_document(day.date)
        assert document is not None
        assert receipts.verify_day(document.text).holds
    await assert_all_proven(services, made)


async def test_several_sealers_seal_everything_once(services: Services) -> None:
    made = await earn(services, 40)
    sealers = [sealer(services, size=3) for _ in range(4)]
    counts = await asyncio.gather(*(sealing.seal_now() for sealing in sealers))
    blocks = await chain(services.sealing)
    assert sum(counts) == len(blocks)
    assert sum(block.header.size for block in blocks) == 40
    await assert_all_proven(services, made)
    stored = await dump(services)
    sealed = [transaction for leaves in stored["ledger_leaves"] for transaction in leaves["transactions"]]
    assert sorted(sealed) == sorted(bytes.fromhex(transaction.id[3:]) for transaction in made)
    assert stored["ledger_unsealable"] == []
    assert len(stored["ledger_keys"]) == 1


class Overtaken:
    """A sealer's reads; each time it has read the last block, a rival makes the next before it reads anything else."""

    def __init__(self, reads: SealReads, rival: Sealing) -> None:
        self._reads = reads
        self._rival = rival

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reads, name)

    async def last_block(self) -> Any:
        found = await self._reads.last_block()
        await self._rival._seal(force=True)
        return found


async def test_a_sealer_that_is_overtaken_between_two_reads_takes_it_for_no_falsification(services: Services) -> None:
    await earn(services, 1, "first")
    await services.sealing.seal_now()
    made = await earn(services, 6)
    late: Any = sealer(services, size=1)
    late._reads = Overtaken(late._reads, sealer(services, size=1))
    assert await late.seal_now() == 0
    assert [block.header.size for block in await chain(services.sealing)] == [1] * 7
    await assert_all_proven(services, made)


async def test_a_new_key_goes_on_where_the_old_one_ended(services: Services, clock: ManualClock) -> None:
    made = await earn(services, 2)
    await services.sealing.seal_now()
    other = Ed25519PrivateKey.generate()
    clock.advance(timedelta(days=1))
    made += await earn(services, 1, "next")
    renewed = sealer(services, load=lambda: other)
    assert await renewed.seal_now() == 1
    made += await earn(services, 1, "last")
    assert await renewed.seal_now() == 1
    await assert_all_proven(services, made)
    first, second, third = await chain(services.sealing)
    assert first.header.key != second.header.key == third.header.key
    assert list((await services.sealing.list_keys()).values()) == [first.public_key, second.public_key]
    listing = json.loads(await services.sealing.days_document())
    assert listing["keys"] == {block.header.key: block.public_key for block in (first, second)}
    # The old day was made final with the new key, and names both.
    old = await services.sealing.day_document(first.day)
    assert old is not None
    assert set(json.loads(old.text)["keys"]) == {first.header.key, second.header.key}


async def test_what_was_tampered_with_before_sealing_is_left_out_by_name_and_stops_nobody(services: Services) -> None:
    made = await earn(services, 5)
    gone, broken = made[1], made[3]
    await tampered(services, "ledger_transactions", {"_id": gone.id}, None)
    await tampered(services, "ledger_transactions", {"_id": broken.id}, {"$unset": {"opens": 1}})
    forged = {"_id": "uns_forged", "transactions": ["tx_1", made[0].id], "at": AFTERNOON}
    await services.database.raw["ledger_unsealed"].insert_one(forged)
    LEDGER_WATCH.strays.clear()
    assert await services.sealing.seal_now() == 1
    [block] = await chain(services.sealing)
    assert block.header.size == 3
    left_out = {item.transaction: item.reason for item in await services.sealing.list_unsealable()}
    assert left_out == {
        gone.id: UnsealableReason.MISSING,
        broken.id: UnsealableReason.MALFORMED,
        "tx_1": UnsealableReason.MALFORMED,
    }
    await assert_all_proven(services, [made[0], made[2], made[4]])


async def test_what_is_sealed_is_not_sealed_again(services: Services) -> None:
    made = await earn(services, 3)
    await services.sealing.seal_now()
    again = [*made, *await earn(services, 1, "new")]
    forged = {"_id": "uns_forged", "transactions": [transaction.id for transaction in again[:2]], "at": AFTERNOON}
    await services.database.raw["ledger_unsealed"].insert_one(forged)
    LEDGER_WATCH.strays.clear()
    assert await services.sealing.seal_now() == 1
    assert [block.header.size for block in await chain(services.sealing)] == [3, 1]
    assert {(item.transaction, item.reason, item.height) for item in await services.sealing.list_unsealable()} == {
        (transaction.id, UnsealableReason.SEALED_BEFORE, 2) for transaction in made[:2]
    }
    await assert_all_proven(services, again)


CHANGED = "transaction, proof, block.size or block.root was changed"
FALSIFICATIONS: list[tuple[str, dict[str, Any] | None, str]] = [
    ("ledger_transactions", {"$set": {"postings.0.amount": Int64(99)}}, CHANGED),
    ("ledger_transactions", {"$set": {"cause.note": "x"}}, CHANGED),
    ("ledger_transactions", {"$set": {"lots": []}}, CHANGED),
    ("ledger_leaves", {"$set": {"leaves": bytes(64)}}, CHANGED),
    ("ledger_leaves", {"$set": {"leaves": b""}}, "block 1: 0 bytes of leaves for a size of 2"),
    ("ledger_leaves", {"$set": {"leaves": bytes(5)}}, "block 1: 5 bytes of leaves for a size of 2"),
    ("ledger_blocks", {"$set": {"root": "0" * 64}}, CHANGED),
    ("ledger_blocks", {"$set": {"signature": "0" * 128}}, "block, signature or public_key was changed"),
    ("ledger_blocks", {"$set": {"key": "0" * 16}}, "block 1: its key 0000000000000000 is not registered"),
    ("ledger_blocks", None, "block 1: its leaves are there, itself is missing"),
]


async def test_no_receipt_is_given_for_what_was_changed(services: Services) -> None:
    first, _ = await earn(services, 2)
    await services.sealing.seal_now()
    for collection, change, problem in FALSIFICATIONS:
        query = {"_id": first.id} if collection == "ledger_transactions" else {"_id": Int64(1)}
        original = await tampered(services, collection, query, change)
        with pytest.raises(SealBrokenError, match=problem):
            await services.sealing.find_receipt(first.id, None)
        await restored(services, collection, original)
    await assert_all_proven(services, [first])


async def test_a_changed_chain_is_not_continued(services: Services) -> None:
    for prefix in ("first", "second"):
        await earn(services, 1, prefix)
        await services.sealing.seal_now()
    await earn(services, 1, "next")
    for change, problem in (
        ({"$set": {"root": "0" * 64}}, "block 2: its hash is not that of its header"),
        ({"$set": {"signature": "0" * 128}}, "block 2: its signature does not hold"),
        ({"$set": {"date": "2026-11-20"}}, "block 2: its day 2026-11-20 does not end with it"),
        (None, "block 1: its day 2026-11-21 does not end with it"),
    ):
        original = await tampered(services, "ledger_blocks", {"_id": Int64(2)}, change)
        before = await dump(services)
        with pytest.raises(SealBrokenError, match=problem):
            await sealer(services).seal_now()
        assert await dump(services) == before
        await restored(services, "ledger_blocks", original)
    block = await tampered(services, "ledger_blocks", {"_id": Int64(2)}, None)
    day = await tampered(services, "ledger_days", {}, {"$set": {"last": Int64(1)}})
    with pytest.raises(SealBrokenError, match="block 2: its leaves are there, itself is missing"):
        await sealer(services).seal_now()
    await restored(services, "ledger_blocks", block)
    await restored(services, "ledger_days", day)
    first = await tampered(services, "ledger_blocks", {"_id": Int64(1)}, None)
    with pytest.raises(SealBrokenError, match="day 2026-11-21: not all blocks from 1 to 2 are there"):
        await sealer(services).seal_now()
    await restored(services, "ledger_blocks", first)
    assert await sealer(services).seal_now() == 1


async def test_only_who_stands_in_a_transaction_sees_its_receipt(services: Services, clock: ManualClock) -> None:
    hold = holding(until=clock.now() + timedelta(hours=1))
    for transaction in (earning(), transfer(), hold, release(hold)):
        await services.ledger.post(transaction)
    await services.sealing.seal_now()

    async def sees(name: OwnerId, transaction: Transaction) -> bool:
        return await services.sealing.find_receipt(transaction.id, lambda found: found == name) is not None

    expected = {"alice": [True] * 4, "bob": [False, True, False, False], "carol": [False] * 4}
    for name, seen in expected.items():
        found = [await sees(owner(name), transaction) for transaction in (earning(), transfer(), hold, release(hold))]
        assert (name, found) == (name, seen)


async def test_no_text_but_an_id_finds_a_receipt(services: Services) -> None:
    await services.ledger.post(earning())
    await services.ledger.post(transfer())
    await services.sealing.seal_now()
    copy = f"{transfer().id}@{owner('bob')}"
    for name in ("", "tx_", "\x00", copy, transfer().id.upper(), f"{transfer().id}\n", "x" * 1_000_000):
        assert await services.sealing.find_receipt(name, None) is None  # type: ignore[arg-type]


async def test_reading_needs_no_private_key(services: Services) -> None:
    [first] = await earn(services, 1)
    await services.sealing.seal_now()

    def refuse() -> Ed25519PrivateKey:
        raise AssertionError("the private key was asked for")

    reader = sealer(services, load=refuse)
    assert text_of(await reader.find_receipt(first.id, None)) == text_of(
        await services.sealing.find_receipt(first.id, None)
    )
    assert await reader.day_document(AFTERNOON.date()) is not None
    assert await reader.seal_due() == 0
