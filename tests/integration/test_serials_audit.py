"""The audit of serials: silent after any moves; it names whatever was changed in ranges or in what the book tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.market.serials.model import SerialRange
from backend.market.serials.store import list_ranges, retired_owner
from tests.conftest import LEDGER_WATCH
from tests.factories import owner
from tests.floor import give_credits
from tests.integration.serial_moves import audit_all, hand_over, retire
from tests.simulation.chance import seeded
from tests.trading import BATCH, CREDIT, FIRM, POOL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.runtime import Services

ALICE, BOB = owner("alice"), owner("bob")
PEOPLE = (ALICE, BOB, FIRM, POOL)


@pytest.fixture
async def floor(services: Services) -> AsyncIterator[Services]:
    """Alice 21-40, bob 1-10, the firm 16-20 and 41-60 of one credit and 1-5 of another; 11-15 are retired."""
    await give_credits(services, ALICE, 40, batch=BATCH)
    await give_credits(services, FIRM, 20, first=41, batch=BATCH)
    await give_credits(services, FIRM, 5, batch="b2")
    await hand_over(services, ALICE, BOB, 10)
    await hand_over(services, ALICE, FIRM, 10)
    await retire(services, FIRM, 5, "cert-1")
    assert (await audit_all(services)).findings == []
    yield services
    LEDGER_WATCH.strays.clear()


async def told(services: Services) -> list[str]:
    """What is found about serials."""
    findings = (await audit_all(services)).findings
    return [finding for finding in findings if finding.startswith("serials ") or "tells no serials" in finding]


async def change(services: Services, first: int, update: dict[str, Any]) -> None:
    raw = services.database.raw["market_serials"]
    assert (await raw.update_one({"_id": f"{CREDIT}#{first}"}, update)).modified_count == 1


async def test_an_empty_book_has_no_serials(services: Services) -> None:
    assert (await audit_all(services)).findings == []


async def test_random_moves_are_clean(services: Services) -> None:
    chance = seeded()
    free = 1
    for number in range(40):
        payer, payee = chance.sample(PEOPLE, 2)
        has = sum(run.grams for run in await list_ranges(services.database, payer, CREDIT, limit=1_000))
        if number % 8 == 0 or not has:
            run = await give_credits(services, payer, chance.randint(1, 30), first=free, batch=BATCH)
            free = run.last + 1
        elif number % 5 == 0:
            await retire(services, payer, chance.randint(1, has), f"cert-{number}")
        else:
            await hand_over(services, payer, payee, chance.randint(1, has))
    assert (await audit_all(services)).findings == []


async def test_a_range_moved_to_another_owner_is_found(floor: Services) -> None:
    await change(floor, 1, {"$set": {"owner": ALICE}})
    assert await told(floor) == [
        f"serials {CREDIT} citizen:alice 1: stored and not told by the book",
        f"serials {CREDIT} citizen:alice 11: told by the book and not stored",
        f"serials {CREDIT} citizen:bob 1: told by the book and not stored",
        f"serials {CREDIT} citizen:bob 11: stored and not told by the book",
    ]


async def test_a_retired_range_given_back_or_to_another_certificate_is_found(floor: Services) -> None:
    for thief in (FIRM, retired_owner("cert-2")):
        await change(floor, 11, {"$set": {"owner": thief}})
        found = await told(floor)
        assert f"serials {CREDIT} retired:cert-1 11: told by the book and not stored" in found
        assert f"serials {CREDIT} {thief} 11: stored and not told by the book" in found
        await change(floor, 11, {"$set": {"owner": retired_owner("cert-1")}})
    assert await told(floor) == []


async def test_owners_of_equal_ranges_changing_places_are_found(floor: Services) -> None:
    """The sums are right for everybody; only which serials they are is not."""
    await change(floor, 21, {"$set": {"owner": FIRM}})
    await change(floor, 41, {"$set": {"owner": ALICE}})
    found = await told(floor)
    assert f"serials {CREDIT} citizen:alice 41: stored and not told by the book" in found
    assert f"serials {CREDIT} citizen:alice 21: told by the book and not stored" in found
    assert not any(finding.startswith("serials of ") for finding in found)


async def test_a_wider_range_is_found(floor: Services) -> None:
    await change(floor, 1, {"$set": {"last": Int64(12)}})
    found = await told(floor)
    assert f"serials {CREDIT}#11-15: do not begin at 13" in found
    assert f"serials of citizen:*:{CREDIT}: are 32 grams, the book has 30000 mg" in found
    # Beyond the end nobody is pushed aside; the book has no such gram.
    await change(floor, 1, {"$set": {"last": Int64(10)}})
    await change(floor, 41, {"$set": {"last": Int64(61)}})
    found = await told(floor)
    assert f"serials of enterprise:*:{CREDIT}: are 26 grams, the book has 25000 mg" in found
    assert f"serials of programme:issuing:{CREDIT}: are -61 grams, the book has -60000 mg" in found


async def test_a_narrower_range_or_one_that_begins_later_is_found(floor: Services) -> None:
    await change(floor, 1, {"$set": {"last": Int64(9)}})
    assert f"serials {CREDIT}#11-15: do not begin at 10" in await told(floor)
    await change(floor, 1, {"$set": {"last": Int64(10), "first": Int64(2)}})
    found = await told(floor)
    assert f"serials {CREDIT}#2-10: do not begin at 1" in found
    assert f"serials {CREDIT}#2-10: have the id of another place" in found
    await change(floor, 1, {"$set": {"last": Int64(1), "first": Int64(10)}})
    assert f"serials {CREDIT}#10-1: do not begin at 1" in await told(floor)


async def test_a_range_that_is_gone_is_found(floor: Services) -> None:
    raw = floor.database.raw["market_serials"]
    await raw.delete_one({"_id": f"{CREDIT}#1"})
    assert f"serials {CREDIT}#11-15: do not begin at 1" in await told(floor)
    await raw.delete_many({})
    found = await told(floor)
    assert f"serials of programme:retired:{CREDIT}: are 0 grams, the book has 5000 mg" in found
    assert "serials of enterprise:*:credit:b2: are 0 grams, the book has 5000 mg" in found


@pytest.mark.parametrize("first", [1, 3])
async def test_a_range_that_somebody_else_has_too_is_found(floor: Services, first: int) -> None:
    double = {"credit": CREDIT, "first": Int64(first), "last": Int64(10), "owner": POOL}
    await floor.database.raw["market_serials"].insert_one({"_id": f"{CREDIT}#{first}+", **double})
    found = await told(floor)
    assert f"serials {CREDIT}#{first}-10: do not begin at 11" in found
    assert f"serials {CREDIT}#{first}-10: have the id of another place" in found
    assert f"serials of pool:*:{CREDIT}: are {11 - first} grams, the book has 0 mg" in found


async def test_a_range_of_another_credit_is_found(floor: Services) -> None:
    await change(floor, 41, {"$set": {"credit": "credit:b2"}})
    found = await told(floor)
    assert "serials credit:b2#41-60: do not begin at 6" in found
    assert "serials of enterprise:*:credit:b2: are 25 grams, the book has 5000 mg" in found


CAUSES: dict[str, tuple[str, dict[str, Any], str]] = {
    "other serials": (
        "TRADE",
        {"$set": {"cause.serials": "31-40"}},
        f"serials {CREDIT} citizen:alice 31: stored and not told by the book",
    ),
    "fewer serials": ("TRADE", {"$set": {"cause.serials": "1-9"}}, f"1-9 is not 10000 mg of {CREDIT}"),
    "another credit": ("TRADE", {"$set": {"cause.credit": "credit:b2"}}, f"1-10 is not 10000 mg of {CREDIT}"),
    "no serials": ("TRADE", {"$unset": {"cause.serials": ""}}, "'serials'"),
    "no credit": (
        "TRADE",
        {"$unset": {"cause.credit": ""}},
        f"serials {CREDIT} citizen:bob 1: stored and not told by the book",
    ),
    "words": ("TRADE", {"$set": {"cause.serials": "the first ten"}}, "no ranges of serials: 'the first ten'"),
    "another certificate": (
        "RETIRE",
        {"$set": {"cause.certificate": "cert-9"}},
        f"serials {CREDIT} retired:cert-9 11: told by the book and not stored",
    ),
    "no certificate": ("RETIRE", {"$unset": {"cause.certificate": ""}}, "'certificate'"),
    "issued twice": (
        "ISSUE",
        {"$set": {"cause.serials": "21-60"}},
        f"serials {CREDIT} citizen:alice 1: stored and not told by the book",
    ),
}


@pytest.mark.parametrize("name", CAUSES)
async def test_a_transaction_that_tells_other_serials_is_found(floor: Services, name: str) -> None:
    kind, update, expected = CAUSES[name]
    raw = floor.database.raw["ledger_transactions"]
    query = {"kind": kind, "copy_of": None, "cause.serials": {"$in": ["1-10", "1-40", "11-15"]}}
    found = await raw.update_one(query, update)
    assert found.modified_count == 1
    told_now = await told(floor)
    assert any(expected in finding for finding in told_now), told_now


async def test_serials_that_are_stored_as_they_were_moved_back_are_clean(floor: Services) -> None:
    await change(floor, 1, {"$set": {"owner": ALICE}})
    assert await told(floor) != []
    await change(floor, 1, {"$set": {"owner": BOB}})
    assert await told(floor) == []
    assert await list_ranges(floor.database, BOB, CREDIT, limit=9) == (SerialRange(1, 10),)
