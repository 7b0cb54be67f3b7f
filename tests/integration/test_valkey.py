"""Leases, nudges and channels on a real Valkey, and what is left of them without it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from kombu.exceptions import OperationalError

from backend.valkey.channels import QUEUE_LIMIT, Channels
from backend.valkey.leases import Leases
from backend.valkey.nudges import DEBOUNCE_MS, Nudges
from backend.valkey.task_queue import TaskQueue
from tests.integration.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from backend.valkey.embedded import EmbeddedValkey

LONG_MS = 60_000


async def held(leases: Leases, *names: str, ttl_ms: int = LONG_MS) -> frozenset[str]:
    async with leases.hold(names, ttl_ms=ttl_ms) as mine:
        return mine


async def test_a_lease_has_one_holder_at_a_time(redis: Redis) -> None:
    one, other = Leases(redis), Leases(redis)
    async with one.hold(["a", "b"], ttl_ms=LONG_MS) as mine:
        assert mine == {"a", "b"}
        assert await held(other, "a", "b", "c") == {"c"}
        assert await held(one, "a") == frozenset()
    assert await held(other, "a", "b") == {"a", "b"}
    assert await redis.keys("lease:*") == []


async def test_of_many_who_ask_at_once_one_gets_it(redis: Redis) -> None:
    leases = Leases(redis)
    decided = asyncio.Event()
    asked = 0

    async def ask() -> bool:
        nonlocal asked
        async with leases.hold(["a"], ttl_ms=LONG_MS) as mine:
            asked += 1
            if asked == 20:
                decided.set()
            await decided.wait()
            return bool(mine)

    assert sum(await asyncio.gather(*(ask() for _ in range(20)))) == 1


async def test_a_lease_is_released_whatever_the_block_meets(redis: Redis) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        async with Leases(redis).hold(["a"], ttl_ms=LONG_MS):
            raise RuntimeError("inside")
    assert await redis.keys("lease:*") == []


async def test_a_lease_ends_by_itself_and_its_old_holder_does_not_end_the_next(redis: Redis) -> None:
    one, other = Leases(redis), Leases(redis)
    async with one.hold(["a"], ttl_ms=30):

        async def is_free() -> bool:
            return not await redis.exists("lease:a")

        assert await eventually(is_free)
        await redis.set("lease:a", "of another worker", px=LONG_MS)
    assert await redis.get("lease:a") == "of another worker"
    assert await held(other, "a") == frozenset()


async def test_without_valkey_every_lease_counts_as_free(lost_redis: Redis) -> None:
    assert await held(Leases(lost_redis), "a", "b") == {"a", "b"}


async def test_a_valkey_lost_inside_the_block_does_not_fail_it(redis: Redis, lost_redis: Redis) -> None:
    leases = Leases(redis)
    async with leases.hold(["a"], ttl_ms=LONG_MS) as mine:
        assert mine == {"a"}
        leases._release = lost_redis.register_script("return 0")


class Recorder(TaskQueue):
    """Remembers what was sent, in place of a broker; ``down`` is one that does not answer."""

    def __init__(self, *, down: bool = False) -> None:
        self.sent: list[list[int]] = []
        self.down = down

    async def send_many(self, name: str, arguments: Sequence[Sequence[int]]) -> None:
        assert name == "settle"
        if self.down:
            raise OperationalError("no broker")
        self.sent.extend(list(argument) for argument in arguments)


async def test_a_hundred_nudges_send_one_task(redis: Redis) -> None:
    queue = Recorder()
    nudges = Nudges(redis, queue, "settle", lanes=1)
    for _ in range(50):
        nudges.nudge([7])
    await nudges.flush()
    for _ in range(50):
        nudges.nudge([7])
        await nudges.flush()
    assert queue.sent == [[7]]
    assert 0 < await redis.pttl("nudge:settle:7") <= DEBOUNCE_MS


async def test_processes_share_the_debounce(redis: Redis) -> None:
    queues = [Recorder() for _ in range(5)]
    for queue in queues:
        nudges = Nudges(redis, queue, "settle", lanes=1)
        nudges.nudge([1, 2])
        await nudges.flush()
    assert [queue.sent for queue in queues] == [[[1, 2]], [], [], [], []]


async def test_a_task_that_begins_can_be_woken_again(redis: Redis) -> None:
    queue = Recorder()
    nudges = Nudges(redis, queue, "settle", lanes=1)
    nudges.nudge([1, 2])
    await nudges.flush()
    assert await nudges.asked([0, 1, 2]) == [1, 2]
    await nudges.begin([1])
    assert await nudges.asked([0, 1, 2]) == [2]
    nudges.nudge([1, 2])
    await nudges.flush()
    assert queue.sent == [[1, 2], [1]]


async def test_a_backlog_is_spread_over_the_lanes(redis: Redis) -> None:
    queue = Recorder()
    nudges = Nudges(redis, queue, "settle", lanes=3)
    nudges.nudge(range(64))
    await nudges.flush()
    assert [len(lane) for lane in queue.sent] == [22, 21, 21]
    assert sorted(shard for lane in queue.sent for shard in lane) == list(range(64))
    await nudges.begin([3, 6])
    nudges.nudge(range(64))
    await nudges.flush()
    assert queue.sent[3:] == [[3, 6]]


async def test_nudging_nothing_sends_nothing(redis: Redis) -> None:
    queue = Recorder()
    nudges = Nudges(redis, queue, "settle", lanes=1)
    nudges.nudge([])
    await nudges.flush()
    assert (queue.sent, nudges._sender) == ([], None)


async def test_a_lost_broker_costs_a_nudge_and_raises_nothing(redis: Redis) -> None:
    queue = Recorder(down=True)
    nudges = Nudges(redis, queue, "settle", lanes=1)
    nudges.nudge([1])
    await nudges.flush()
    queue.down = False
    nudges.nudge([2])
    await nudges.flush()
    assert queue.sent == [[2]]


async def test_a_lost_valkey_costs_nudges_and_raises_nothing(lost_redis: Redis) -> None:
    queue = Recorder()
    nudges = Nudges(lost_redis, queue, "settle", lanes=1)
    nudges.nudge([1])
    await nudges.flush()
    await nudges.begin([1])
    assert await nudges.asked([1]) == []
    assert queue.sent == []


async def test_tasks_reach_the_broker_by_name(redis: Redis, valkey: EmbeddedValkey) -> None:
    queue = TaskQueue(valkey.url)
    try:
        await queue.send_many("actions.settle", [[1, 2], [3]])
    finally:
        queue.close()
    messages = [str(message) for message in await redis.lrange("tanhui", 0, -1)]
    assert len(messages) == 2
    assert all('"task": "actions.settle"' in message for message in messages)


@pytest.fixture
async def channels(redis: Redis) -> AsyncIterator[Channels]:
    opened = Channels(redis)
    yield opened
    await opened.close()


async def next_of(queue: asyncio.Queue[object]) -> object:
    async with asyncio.timeout(20):
        return await queue.get()


async def test_every_listener_of_a_channel_hears_and_no_other(channels: Channels) -> None:
    async with channels.listen("alice") as one, channels.listen("alice") as two, channels.listen("bob") as other:
        await channels.publish_many([("alice", {"n": 1}), ("carol", {"n": 2}), ("alice", {"n": 3}), ("bob", {"n": 4})])
        assert [await next_of(queue) for queue in (one, one, two, two)] == [{"n": 1}, {"n": 3}] * 2
        assert await next_of(other) == {"n": 4}
        assert one.empty()
        assert two.empty()


async def test_a_listener_that_left_costs_nothing(channels: Channels, redis: Redis) -> None:
    async with channels.listen("alice") as kept:
        async with channels.listen("alice"), channels.listen("bob"):
            pass
        await channels.publish_many([("alice", {"n": 1})])
        assert await next_of(kept) == {"n": 1}

        async def is_left() -> bool:
            return dict(await redis.pubsub_numsub("alice", "bob")) == {"alice": 1, "bob": 0}

        assert await eventually(is_left)
    assert channels._listeners == {}
    async with channels.listen("alice") as again:
        await channels.publish_many([("alice", {"n": 2})])
        assert await next_of(again) == {"n": 2}


async def test_a_slow_reader_loses_the_oldest_only(channels: Channels) -> None:
    async with channels.listen("alice") as slow, channels.listen("end") as end:
        await channels.publish_many([("alice", {"n": number}) for number in range(QUEUE_LIMIT + 10)])
        await channels.publish_many([("end", {})])
        await next_of(end)
        kept = [slow.get_nowait()["n"] for _ in range(slow.qsize())]
    assert kept == list(range(10, QUEUE_LIMIT + 10))


async def test_listeners_hear_again_after_the_connection_was_cut(channels: Channels, redis: Redis) -> None:
    async with channels.listen("alice") as queue:
        assert await redis.client_kill_filter(_type="pubsub") == 1

        async def hears() -> bool:
            await channels.publish_many([("alice", {"n": 1})])
            return not queue.empty()

        assert await eventually(hears)
        async with channels.listen("bob") as other:
            await channels.publish_many([("bob", {"n": 2})])
            assert await next_of(other) == {"n": 2}
