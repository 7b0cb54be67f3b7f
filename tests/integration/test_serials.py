"""Serials on a real server: ranges split and join in the transaction that moves the credits, or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backend.market.serials.model import SerialRange, joined, parse_ranges, spelled, taken, total_grams
from backend.market.serials.store import (
    AHEAD,
    PAGE,
    SERIALS,
    SerialSheet,
    TooFewSerialsError,
    find_owners,
    list_ranges,
    retired_owner,
)
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.factories import owner
from tests.floor import give_credits
from tests.integration.serial_moves import audit_all, hand_over, retire
from tests.simulation.chance import seeded
from tests.trading import BATCH, CREDIT, FIRM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from backend.ledger.model import OwnerId
    from backend.market.serials.model import Ranges
    from backend.mongo.client import Database
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

ALICE, BOB, CAROL = owner("alice"), owner("bob"), owner("carol")


async def write(database: Database, *steps: Callable[[SerialSheet], Awaitable[object]]) -> list[object]:
    """One sheet with these steps."""

    async def body(tx: Tx) -> list[object]:
        sheet = SerialSheet(tx)
        results = [await step(sheet) for step in steps]
        await sheet.write()
        return results

    return await Transactions(database).run(body)


def issuing(owner: OwnerId, *runs: SerialRange) -> Callable[[SerialSheet], Awaitable[object]]:
    async def step(sheet: SerialSheet) -> None:
        for run in runs:
            sheet.issue(CREDIT, run, owner)

    return step


def moving(grams: int, payer: OwnerId, payee: OwnerId) -> Callable[[SerialSheet], Awaitable[Ranges]]:
    async def step(sheet: SerialSheet) -> Ranges:
        return await sheet.move(CREDIT, grams, payer, payee)

    return step


async def held(database: Database, *owners: OwnerId) -> list[str]:
    """The ranges of each, spelled as they are stored."""
    return [spelled(await list_ranges(database, one, CREDIT, limit=10_000)) for one in owners]


def runs(text: str) -> tuple[SerialRange, ...]:
    return parse_ranges(text)


async def test_issued_serials_are_one_range_and_leave_from_the_lowest(database: Database) -> None:
    await write(database, issuing(ALICE, SerialRange(1, 100)))
    assert await write(database, moving(30, ALICE, BOB)) == [runs("1-30")]
    assert await held(database, ALICE, BOB) == ["31-100", "1-30"]
    assert await write(database, moving(70, ALICE, BOB)) == [runs("31-100")]
    # Bob's own were not read for it: what touches may lie in two ranges until he moves them.
    assert await held(database, ALICE, BOB) == ["", "1-30,31-100"]
    assert await write(database, moving(35, BOB, ALICE)) == [runs("1-35")]
    assert await held(database, ALICE, BOB) == ["1-35", "36-100"]
    document = await database.find_one(SERIALS.name, {"owner": ALICE})
    assert document == {"_id": "credit:b1#1", "credit": "credit:b1", "first": 1, "last": 35, "owner": ALICE}


async def test_touching_ranges_of_one_sheet_join(database: Database) -> None:
    await write(database, issuing(ALICE, SerialRange(1, 10), SerialRange(11, 20)), issuing(BOB, SerialRange(21, 30)))
    assert await held(database, ALICE, BOB) == ["1-20", "21-30"]
    # There and back again in one sheet leaves no trace.
    before = await database.find(SERIALS.name, {}, limit=10, sort=[("_id", 1)])
    steps = (moving(5, ALICE, BOB), moving(5, BOB, ALICE))
    assert await write(database, *steps) == [runs("1-5"), runs("1-5")]
    assert await database.find(SERIALS.name, {}, limit=10, sort=[("_id", 1)]) == before


async def test_what_came_in_with_the_sheet_does_not_go_before_what_was_there(database: Database) -> None:
    """Which serials leave does not depend on how many moves are written at once."""
    await write(database, issuing(ALICE, SerialRange(1, 10), SerialRange(21, 30)), issuing(BOB, SerialRange(11, 20)))
    moves = (moving(10, BOB, ALICE), moving(5, ALICE, CAROL), moving(8, ALICE, CAROL))
    assert await write(database, *moves) == [runs("11-20"), runs("1-5"), runs("6-13")]
    assert await held(database, ALICE, BOB, CAROL) == ["14-30", "", "1-13"]


async def test_ranges_beyond_one_page_are_read_as_far_as_needed(database: Database) -> None:
    many = [SerialRange(10 * number + 1, 10 * number + 3) for number in range(PAGE * 2 + 7)]
    others = [SerialRange(run.last + 1, run.last + 7) for run in many]
    await write(database, issuing(ALICE, *many), issuing(BOB, *others))
    assert len(await list_ranges(database, ALICE, CREDIT, limit=10_000)) == len(many)
    first, rest = taken(many, 3 * PAGE + 4)
    assert await write(database, moving(3 * PAGE + 4, ALICE, CAROL)) == [first]
    assert await held(database, ALICE, CAROL) == [spelled(rest), spelled(first)]
    # All that is left, in two moves of one sheet.
    left = total_grams(rest)
    moved = await write(database, moving(left - 1, ALICE, CAROL), moving(1, ALICE, BOB))
    assert moved == [taken(rest, left - 1)[0], (SerialRange(many[-1].last, many[-1].last),)]
    assert await list_ranges(database, ALICE, CREDIT, limit=10) == ()
    # What bob has just got lies beside his own and is one range with it, once he moves that far.
    everything = 7 * len(others) + 1
    assert await write(database, moving(everything, BOB, FIRM)) == [joined([*others, *moved[1]])]  # type: ignore[misc]
    with pytest.raises(TooFewSerialsError):
        await write(database, moving(1, BOB, FIRM))


@pytest.mark.parametrize("of_alice", [AHEAD - 60, AHEAD - 50, AHEAD - 30, AHEAD + 30])
async def test_what_is_read_ahead_moves_like_what_is_read_when_needed(database: Database, of_alice: int) -> None:
    """Whether the one query ends behind, at or within an owner's ranges."""
    many = [SerialRange(10 * number + 1, 10 * number + 3) for number in range(of_alice)]
    others = [SerialRange(run.first + 4, run.last + 4) for run in many[:50]]
    await write(database, issuing(ALICE, *many), issuing(BOB, *others), issuing(CAROL, SerialRange(10**6, 10**6)))

    async def ahead(sheet: SerialSheet) -> None:
        await sheet.read_ahead(CREDIT, [ALICE, BOB, CAROL, FIRM])

    moves = (moving(3 * of_alice, ALICE, FIRM), moving(150, BOB, FIRM), moving(1, CAROL, FIRM))
    moved = await write(database, ahead, *moves, moving(3 * of_alice + 151, FIRM, ALICE))
    assert moved[1:4] == [tuple(many), tuple(others), (SerialRange(10**6, 10**6),)]
    assert await held(database, ALICE, BOB, CAROL, FIRM) == [spelled(moved[4]), "", "", ""]  # type: ignore[arg-type]


@pytest.mark.parametrize("grams", [31, 10**15])
async def test_too_few_serials_are_an_error_and_change_nothing(services: Services, grams: int) -> None:
    await give_credits(services, ALICE, 30, batch=BATCH)
    kept = await dump(services)
    with pytest.raises(TooFewSerialsError) as caught:
        await write(services.database, moving(10, ALICE, BOB), moving(grams - 10, ALICE, BOB))
    assert str(caught.value) == f"citizen:alice has 20 serials of credit:b1, not {grams - 10}"
    with pytest.raises(TooFewSerialsError):
        await write(services.database, moving(1, BOB, ALICE))
    assert await dump(services) == kept


async def test_another_credit_has_serials_of_its_own(services: Services) -> None:
    await give_credits(services, ALICE, 30, batch=BATCH)
    await give_credits(services, BOB, 30, batch="b2")
    await hand_over(services, ALICE, BOB, 10)
    assert await held(services.database, ALICE, BOB) == ["11-30", "1-10"]
    assert (await audit_all(services)).findings == []


async def test_who_has_a_serial_is_found_and_retired_serials_stay_with_their_certificate(services: Services) -> None:
    await give_credits(services, ALICE, 30, batch=BATCH)
    await hand_over(services, ALICE, FIRM, 20)
    await retire(services, FIRM, 5, "cert-1")
    owners = await find_owners(services.database, CREDIT, [1, 5, 6, 20, 21, 30, 31])
    gone = retired_owner("cert-1")
    assert owners == [gone, gone, FIRM, FIRM, ALICE, ALICE, None]
    assert await held(services.database, gone, FIRM, ALICE) == ["1-5", "6-20", "21-30"]
    assert (await audit_all(services)).findings == []


async def test_two_movers_of_one_range_come_one_after_the_other(services: Services) -> None:
    await give_credits(services, ALICE, 40, batch=BATCH)
    first_has_read, second_is_done = asyncio.Event(), asyncio.Event()
    attempts = []

    async def slow(tx: Tx) -> Ranges:
        attempts.append("slow")
        sheet = SerialSheet(tx)
        moved = await sheet.move(CREDIT, 10, ALICE, BOB)
        first_has_read.set()
        await second_is_done.wait()
        await sheet.write()
        return moved

    async def quick() -> Ranges:
        await first_has_read.wait()
        [moved] = await write(services.database, moving(15, ALICE, CAROL))
        second_is_done.set()
        return moved  # type: ignore[return-value]

    slowly, quickly = await asyncio.gather(Transactions(services.database).run(slow), quick())
    assert (spelled(quickly), spelled(slowly)) == ("1-15", "16-25")
    assert attempts == ["slow", "slow"]
    assert await held(services.database, ALICE, BOB, CAROL) == ["26-40", "16-25", "1-15"]


async def test_many_at_once_share_the_serials_without_gap_or_overlap(services: Services) -> None:
    await give_credits(services, ALICE, 60, batch=BATCH)
    people = [owner(f"c{number}") for number in range(6)]
    await asyncio.gather(*(hand_over(services, ALICE, one, 4 + number) for number, one in enumerate(people)))
    spans = [run for one in (ALICE, *people) for run in await list_ranges(services.database, one, CREDIT, limit=100)]
    assert joined(spans) == (SerialRange(1, 60),)
    assert [sum(run.grams for run in await list_ranges(services.database, one, CREDIT, limit=9)) for one in people] == [
        4, 5, 6, 7, 8, 9
    ]  # fmt: skip
    assert (await audit_all(services)).findings == []


ISSUED = SerialRange(1, 40), SerialRange(41, 60), SerialRange(61, 100)
PEOPLE = (ALICE, BOB, FIRM, retired_owner("cert"))


def expected(moves: Iterable[tuple[int, int, int]]) -> tuple[list[list[int]], list[tuple[int, int, int]]]:
    """Who has which serials after those of the moves that can be, by lists of numbers; and which these are."""
    has = [list(range(run.first, run.last + 1)) for run in ISSUED] + [[]]
    done = []
    for payer, step, grams in moves:
        payee = (payer + step) % 4
        if payer != 3 and len(has[payer]) >= grams:
            has[payee] = sorted(has[payee] + has[payer][:grams])
            has[payer] = has[payer][grams:]
            done.append((payer, payee, grams))
    return has, done


@pytest.mark.parametrize("at_once", [1, 7], ids=["one by one", "seven a sheet"])
async def test_random_moves_leave_whom_they_leave_with_what(database: Database, at_once: int) -> None:
    chance = seeded()
    for _ in range(25):
        moves = [(chance.randrange(4), chance.randint(1, 3), chance.randint(1, 25)) for _ in range(30)]
        await database.raw[SERIALS.name].delete_many({})
        await write(database, *(issuing(one, run) for one, run in zip(PEOPLE, ISSUED, strict=False)))
        has, done = expected(moves)
        for start in range(0, len(done), at_once):
            part = done[start : start + at_once]
            await write(database, *(moving(grams, PEOPLE[payer], PEOPLE[payee]) for payer, payee, grams in part))
        for one, serials in zip(PEOPLE, has, strict=True):
            found = await list_ranges(database, one, CREDIT, limit=1_000)
            assert [serial for run in found for serial in range(run.first, run.last + 1)] == serials, (one, moves)


async def test_a_range_is_never_written_out_of_the_transaction(services: Services) -> None:
    """A body that fails after its sheet was written leaves nothing."""
    await give_credits(services, ALICE, 10, batch=BATCH)
    kept = await dump(services)

    async def body(tx: Tx) -> None:
        sheet = SerialSheet(tx)
        await sheet.move(CREDIT, 4, ALICE, BOB)
        await sheet.write()
        raise LookupError

    with pytest.raises(LookupError):
        await Transactions(services.database).run(body)
    assert await dump(services) == kept
