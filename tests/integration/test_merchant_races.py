"""Changes of merchants that arrive together: each takes effect once, or is refused as if it had come second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backend.kernel.errors import BusyError
from backend.rewards.merchants.model import MemberRole
from tests.integration.market import Market, open_market
from tests.unit.rewards.trading import ROOT, application, member_details, works

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from backend.runtime import Services

pytestmark = pytest.mark.anyio
CHEN, LI, WU = works("chen"), works("li"), works("wu")
KEY = "key-0001"
OWNER = member_details(role=MemberRole.OWNER)


@pytest.fixture
async def market(services: Services) -> Market:
    """Merchants and offers on an empty database."""
    return open_market(services)


async def race(*asked: Awaitable[Any]) -> tuple[int, set[str]]:
    """How many of these succeeded when asked together, and why the others did not."""
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    failed = [type(outcome).__name__ for outcome in outcomes if isinstance(outcome, BaseException)]
    return len(outcomes) - len(failed), set(failed)


async def test_of_ten_who_register_one_credit_code_one_does(market: Market) -> None:
    asked = [market.merchants.register(works(f"m{number}"), application(), key=KEY) for number in range(10)]
    done, failed = await race(*asked)
    assert done == 1
    assert failed <= {"CreditCodeTakenError", BusyError.__name__}
    assert await market.services.database.count("merchants", {}) == 1


async def test_a_login_begins_at_one_merchant_though_two_add_it(market: Market) -> None:
    await market.approved()
    await market.approved("wu", number=2)
    done, failed = await race(
        market.merchants.add_member(CHEN, None, "li", member_details(), key=KEY),
        market.merchants.add_member(WU, None, "li", member_details(), key=KEY),
    )
    assert (done, failed) == (1, {"MemberTakenError"})


async def test_two_owners_who_remove_each_other_leave_one(market: Market) -> None:
    merchant = await market.approved()
    await market.merchants.add_member(CHEN, None, "li", OWNER, key=KEY)
    done, failed = await race(
        market.merchants.remove_member(CHEN, None, "li", key=KEY),
        market.merchants.remove_member(LI, None, "chen", key=KEY),
    )
    assert done == 1
    assert failed <= {"ForbiddenError", "LastOwnerError"}
    members = await market.merchants.list_members(ROOT, merchant.id)
    assert sum(member.is_active for member in members) == 1


async def test_ten_changes_at_once_are_all_noted(market: Market) -> None:
    merchant = await market.approved()
    done, _ = await race(
        *(
            market.merchants.add_member(CHEN, None, f"m{number}", member_details(), key=f"key-000{number}")
            for number in range(10)
        )
    )
    after = (await market.merchants.find_merchants([merchant.id]))[merchant.id]
    assert done == 10
    assert after.version == merchant.version + 10
    assert len(await market.merchants.list_members(ROOT, merchant.id)) == 11
