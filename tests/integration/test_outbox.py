"""The outbox: work commits with its cause and is done at least once, whoever crashes in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from backend.mongo.migrations import migrate
from backend.outbox.relay import GRACE, OUTBOX, RETRY_AFTER, Item, Relay, new_item, write_item

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Transactions, Tx

TOPIC = "things.happened"


class Desk:
    """Writes items and receives them; the first ``failures`` deliveries fail."""

    def __init__(self, database: Database, transactions: Transactions, clock: ManualClock) -> None:
        self.failures = 0
        self.delivered: list[Item] = []
        self.relay = Relay(database, clock, {TOPIC: self._receive})
        self._database = database
        self._transactions = transactions
        self._clock = clock

    async def _receive(self, item: Item) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the phone is off")
        self.delivered.append(item)

    async def write(self, topic: str = TOPIC) -> Item:
        now = self._clock.now()
        item = new_item(topic, [{"citizen": "alice"}], now)

        async def body(tx: Tx) -> None:
            await tx.insert_many("causes", [{"_id": item.id}])
            await write_item(tx, item, now)

        await self._transactions.run(body)
        return item

    async def waiting(self) -> list[Document]:
        return await self._database.find(OUTBOX.name, {}, limit=1_000, sort=[("_id", 1)])


@pytest.fixture
async def desk(database: Database, transactions: Transactions, clock: ManualClock) -> Desk:
    await migrate(database, [OUTBOX])
    return Desk(database, transactions, clock)


async def test_an_item_exists_only_with_its_cause(desk: Desk, database: Database, transactions: Transactions) -> None:
    item = new_item(TOPIC, [], desk._clock.now())

    async def body(tx: Tx) -> None:
        await tx.insert_many("causes", [{"_id": "cut off"}])
        await write_item(tx, item, desk._clock.now())
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        await transactions.run(body)
    assert await desk.waiting() == []
    assert await database.find("causes", {}, limit=1) == []
    written = await desk.write()
    assert [document["_id"] for document in await desk.waiting()] == [written.id]


async def test_an_item_sent_at_once_is_gone(desk: Desk) -> None:
    item = await desk.write()
    await desk.relay.send(item)
    assert desk.delivered == [item]
    assert await desk.waiting() == []


async def test_an_item_whose_writer_died_is_delivered_after_the_grace(desk: Desk, clock: ManualClock) -> None:
    item = await desk.write()
    clock.current += GRACE - (GRACE / 5_000)
    assert await desk.relay.drain() == 0
    assert desk.delivered == []
    clock.advance(GRACE / 5_000)
    assert await desk.relay.drain() == 1
    assert desk.delivered == [item]
    assert await desk.waiting() == []
    assert await desk.relay.drain() == 0


async def test_an_item_survives_whatever_its_handler_meets(desk: Desk, clock: ManualClock) -> None:
    item = await desk.write()
    desk.failures = 3
    await desk.relay.send(item)
    clock.advance(GRACE)
    for attempt in (1, 2):
        assert await desk.relay.drain() == 1
        [document] = await desk.waiting()
        assert (document["attempts"], document["due_at"]) == (attempt, clock.now() + RETRY_AFTER)
        # Claimed: not due again at once.
        assert await desk.relay.drain() == 0
        clock.advance(RETRY_AFTER)
    assert await desk.relay.drain() == 1
    assert desk.delivered == [item]
    assert await desk.waiting() == []


async def test_an_item_of_a_topic_nobody_handles_waits(desk: Desk, clock: ManualClock) -> None:
    await desk.write("things.unheard-of")
    clock.advance(GRACE)
    assert await desk.relay.drain() == 1
    assert len(await desk.waiting()) == 1


async def test_a_failing_item_does_not_hold_up_the_next(desk: Desk, clock: ManualClock) -> None:
    desk.failures = 1
    items = [await desk.write() for _ in range(3)]
    clock.advance(GRACE)
    assert await desk.relay.drain() == 3
    assert len(desk.delivered) == 2
    clock.advance(RETRY_AFTER)
    assert await desk.relay.drain() == 1
    assert {item.id for item in desk.delivered} == {item.id for item in items}


async def test_two_relays_share_the_work(
    desk: Desk, database: Database, transactions: Transactions, clock: ManualClock
) -> None:
    other = Desk(database, transactions, clock)
    items = await asyncio.gather(*(desk.write() for _ in range(40)))
    clock.advance(GRACE)
    tried = await asyncio.gather(desk.relay.drain(), other.relay.drain())
    assert sum(tried) == 40
    assert Counter(item.id for item in [*desk.delivered, *other.delivered]) == Counter(item.id for item in items)
    assert await desk.waiting() == []


async def test_a_drain_has_an_end(desk: Desk, clock: ManualClock) -> None:
    for _ in range(3):
        await desk.write()
    clock.advance(GRACE)
    assert await desk.relay.drain(limit=2) == 2
    assert len(await desk.waiting()) == 1
