"""Credits whose serials lie in many pieces: as many as one certificate names at once, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bson import Int64

from backend.kernel.ids import CitizenId
from backend.ledger.model import citizen_owner
from backend.market.retirement.errors import TooFragmentedError
from backend.market.retirement.service import MAX_RANGES
from backend.market.serials.model import SerialRange
from tests.conftest import dump
from tests.factories import citizen
from tests.floor import CREDIT, give_credits
from tests.integration.test_retirement import ALICE, asking

if TYPE_CHECKING:
    from backend.runtime import Services


async def shattered(services: Services, pieces: int, grams: int) -> None:
    """Alice has so many ranges of so many grams, which do not touch: between them lie bob's."""
    bob, raw = citizen_owner(CitizenId("bob")), services.database.raw["market_serials"]
    await give_credits(services, ALICE, pieces * grams)
    await give_credits(services, bob, pieces * grams, first=pieces * grams + 1)
    await raw.delete_many({})
    runs = [(number * grams + 1, (ALICE, bob)[number % 2]) for number in range(2 * pieces)]
    await raw.insert_many(
        {
            "_id": f"{CREDIT}#{first}",
            "credit": CREDIT,
            "first": Int64(first),
            "last": Int64(first + grams - 1),
            "owner": owner,
        }
        for first, owner in runs
    )


async def test_what_lies_in_too_many_pieces_is_retired_in_parts(services: Services) -> None:
    retirement = services.market.retirement
    retirement.max_ranges = 3
    await shattered(services, 5, 10)
    before = await dump(services)
    for grams in (31, 50):
        with pytest.raises(TooFragmentedError) as refused:
            await retirement.retire(citizen(), asking(grams), key="retire-0001")
        assert (refused.value.limit, refused.value.possible_g) == (3, 30)
    assert await dump(services) == before
    made = await retirement.retire(citizen(), asking(30), key="retire-0001")
    assert made.serials == (SerialRange(1, 10), SerialRange(21, 30), SerialRange(41, 50))
    # Sent again it is the same, however many pieces lie behind it; the rest is few enough.
    assert await retirement.retire(citizen(), asking(30), key="retire-0001") == made
    assert len((await retirement.retire(citizen(), asking(20), key="retire-0002")).serials) == 2


async def test_as_many_pieces_as_one_certificate_names_are_retired_at_once(services: Services) -> None:
    await shattered(services, MAX_RANGES + 1, 10)
    made = await services.market.retirement.retire(citizen(), asking(MAX_RANGES * 10), key="retire-0001")
    assert len(made.serials) == MAX_RANGES
    assert await services.market.retirement.stands(made)
