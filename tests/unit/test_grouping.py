"""Group commit: order, limits, each its own outcome, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backend.kernel import grouping
from backend.kernel.errors import BusyError, Refusal, UnavailableError
from backend.kernel.grouping import Groups
from backend.ledger.errors import TooManyHoldsError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Desk:
    """Does groups when told to, and remembers them: odd numbers are refused, ``fatal`` ones are bugs."""

    def __init__(self, *fatal: int) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fatal = set(fatal)
        self.transient: list[Exception] = []

    async def commit(self, items: Sequence[int]) -> list[str | Exception]:
        self.groups.append(list(items))
        await self.gate.wait()
        if self.transient:
            raise self.transient.pop(0)
        if self.fatal & set(items):
            raise ZeroDivisionError
        return [TooManyHoldsError(item) if item % 2 else f"did {item}" for item in items]


def groups_of(desk: Desk, limit: int = 4) -> Groups[int, str]:
    return Groups(desk.commit, limit=limit, name="desk")


async def turns() -> None:
    """Let everything that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def submit_all(groups: Groups[int, str], items: Sequence[int]) -> list[str | BaseException]:
    return await asyncio.gather(*(groups.submit(item) for item in items), return_exceptions=True)


async def test_what_arrives_meanwhile_goes_together_in_order_and_within_the_limit() -> None:
    desk = Desk()
    desk.gate.clear()
    groups = groups_of(desk)
    first = asyncio.create_task(groups.submit(0))
    await turns()
    rest = [asyncio.create_task(groups.submit(item)) for item in range(2, 22, 2)]
    await turns()
    # One group at a time: while the first is being done, the others wait.
    assert desk.groups == [[0]]
    desk.gate.set()
    assert await asyncio.gather(first, *rest) == [f"did {item}" for item in range(0, 22, 2)]
    assert desk.groups == [[0], [2, 4, 6, 8], [10, 12, 14, 16], [18, 20]]


async def test_what_arrives_at_once_is_one_group() -> None:
    desk = Desk()
    assert await submit_all(groups_of(desk), [2, 4, 6]) == ["did 2", "did 4", "did 6"]
    assert desk.groups == [[2, 4, 6]]


async def test_after_a_rest_it_works_again() -> None:
    desk = Desk()
    groups = groups_of(desk)
    for item in (2, 4):
        assert await groups.submit(item) == f"did {item}"
        await turns()
    assert desk.groups == [[2], [4]]


async def test_the_same_item_twice_has_two_outcomes() -> None:
    desk = Desk()
    assert await submit_all(groups_of(desk), [2, 2]) == ["did 2", "did 2"]


async def test_a_refusal_is_its_own_items_only() -> None:
    desk = Desk()
    outcomes = await submit_all(groups_of(desk), [2, 3, 4, 5])
    assert [outcomes[0], outcomes[2]] == ["did 2", "did 4"]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert [str(refusal) for refusal in refusals] == [
        "TOO_MANY_HOLDS: at most 3 holds may be open at once",
        "TOO_MANY_HOLDS: at most 5 holds may be open at once",
    ]
    assert desk.groups == [[2, 3, 4, 5]]


async def test_a_bug_in_one_item_hurts_no_other() -> None:
    desk = Desk(4)
    outcomes = await submit_all(groups_of(desk), [2, 3, 4, 6])
    assert [outcomes[0], outcomes[3]] == ["did 2", "did 6"]
    assert isinstance(outcomes[1], TooManyHoldsError)
    assert isinstance(outcomes[2], ZeroDivisionError)
    # The group failed; then each went by itself, in order.
    assert desk.groups == [[2, 3, 4, 6], [2], [3], [4], [6]]
    assert await groups_of(desk).submit(8) == "did 8"


async def test_a_server_that_does_not_answer_fails_the_group_and_not_the_next() -> None:
    desk = Desk()
    desk.transient = [UnavailableError()]
    groups = groups_of(desk, limit=2)
    outcomes = await submit_all(groups, [2, 4, 6])
    assert [type(outcome) for outcome in outcomes] == [UnavailableError, UnavailableError, str]
    # It is not tried one by one: whether it happened is unknown.
    assert desk.groups == [[2, 4], [6]]


async def test_a_server_that_stops_answering_while_items_go_one_by_one_fails_only_those() -> None:
    desk = Desk()
    desk.transient = [ZeroDivisionError(), UnavailableError()]
    outcomes = await submit_all(groups_of(desk), [2, 4])
    assert [type(outcome) for outcome in outcomes] == [UnavailableError, str]


async def test_who_stops_waiting_stops_nobody_else() -> None:
    desk = Desk()
    desk.gate.clear()
    groups = groups_of(desk)
    tasks = [asyncio.create_task(groups.submit(item)) for item in (2, 3, 4)]
    await turns()
    later = asyncio.create_task(groups.submit(6))
    await turns()
    for task in (tasks[0], tasks[1], later):
        task.cancel()
    await turns()
    assert [task.cancelled() for task in (tasks[0], tasks[1], later)] == [True, True, True]
    desk.gate.set()
    assert await tasks[2] == "did 4"
    await turns()
    # What was handed in is done, though nobody waits for it.
    assert desk.groups == [[2, 3, 4], [6]]


async def test_beyond_the_limit_of_those_who_wait_it_is_busy_at_once() -> None:
    desk = Desk()
    desk.gate.clear()
    groups = groups_of(desk, limit=grouping.MAX_WAITING)
    first = asyncio.create_task(groups.submit(0))
    await turns()
    waiting = [asyncio.create_task(groups.submit(2 * number)) for number in range(grouping.MAX_WAITING)]
    await turns()
    with pytest.raises(BusyError):
        await groups.submit(2)
    desk.gate.set()
    assert await first == "did 0"
    assert len(await asyncio.gather(*waiting)) == 10_000
    assert [len(group) for group in desk.groups] == [1, 10_000]
    assert await groups.submit(2) == "did 2"


async def test_where_the_work_itself_is_cancelled_all_who_wait_learn_it() -> None:
    desk = Desk()
    desk.gate.clear()
    groups = groups_of(desk, limit=1)
    tasks = [asyncio.create_task(groups.submit(item)) for item in (2, 4)]
    await turns()
    [worker] = [task for task in asyncio.all_tasks() if task.get_name() == "desk"]
    worker.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, asyncio.CancelledError]
    assert desk.groups == [[2]]
    # Nothing of it is done by whoever comes next.
    desk.gate.set()
    assert await groups.submit(6) == "did 6"
    assert desk.groups == [[2], [6]]


async def test_a_commit_that_forgets_an_item_leaves_nobody_waiting() -> None:
    async def forgetful(items: Sequence[int]) -> Sequence[int | Exception]:
        return items[1:]

    groups: Groups[int, int] = Groups(forgetful, limit=4, name="forgetful")
    answers = await asyncio.wait_for(asyncio.gather(*map(groups.submit, range(3)), return_exceptions=True), 5)
    assert [str(answer) for answer in answers] == ["forgetful: 0 outcomes for 1 items"] * 3
