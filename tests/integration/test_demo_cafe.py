"""The demo's café: seeding it again, or after it was broken off anywhere, comes to the same café."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend.cli.cafe import CASHIER, OWNER, PRICE, seed_cafe, with_cafe
from backend.cli.city import City
from backend.rewards.merchants.model import MemberRole, MerchantStage
from backend.rewards.offers.model import OfferStage
from tests.conftest import dump

if TYPE_CHECKING:
    from datetime import timedelta

    from backend.identity.model import Principal
    from backend.runtime import Services

pytestmark = pytest.mark.anyio


async def test_the_cafe_sells_one_coffee_and_seeding_again_changes_nothing(services: Services) -> None:
    await seed_cafe(services)
    owner = await services.rewards.merchants.owner_desk(OWNER)
    cashier = await services.rewards.merchants.desk(CASHIER)
    assert (owner.merchant.stage, owner.merchant.name.zh) == (MerchantStage.APPROVED, "江边咖啡")
    assert (cashier.merchant.id, cashier.member.role) == (owner.merchant.id, MemberRole.CASHIER)
    [offer] = await services.rewards.offers.list_of_merchant(
        OWNER, owner.merchant.id, limit=9, older=None, newer=None, newest=True
    )
    assert (offer.stage, offer.terms.price_points) == (OfferStage.LIVE, PRICE)
    before = await dump(services)
    await seed_cafe(services)
    assert await dump(services) == before


class BrokenError(Exception):
    """The machine went off."""


@pytest.mark.parametrize("step", ["save_shop", "approve"])
async def test_seeding_goes_on_where_it_was_broken_off(services: Services, step: str) -> None:
    broken = Breaking(services, step)
    with pytest.raises(BrokenError):
        await seed_cafe(broken)  # type: ignore[arg-type]
    await seed_cafe(services)
    owner = await services.rewards.merchants.owner_desk(OWNER)
    assert (owner.merchant.stage, len(owner.merchant.shops)) == (MerchantStage.APPROVED, 1)


class Breaking:
    """Services whose merchants break off behind one step."""

    def __init__(self, services: Services, step: str) -> None:
        self._services = services
        self._step = step

    def __getattr__(self, name: str) -> object:
        """The services' own, but for merchants."""
        if name == "rewards":
            return Breaking(self._services.rewards, self._step)  # type: ignore[arg-type]
        if name == "merchants":
            return Breaking(self._services.merchants, self._step)  # type: ignore[attr-defined]
        if name != self._step:
            return getattr(self._services, name)

        async def break_off(*given: object, **named: object) -> None:
            await getattr(self._services, name)(*given, **named)
            raise BrokenError

        return break_off


def test_the_cafes_people_have_tokens() -> None:
    class Tokens:
        def issue(self, principal: Principal, lifetime: timedelta) -> str:
            return f"{principal} {lifetime.total_seconds():.0f}"

    class Few:
        tokens = Tokens()

    city = with_cafe(Few(), City([], tokens={"administrator": "x"}))  # type: ignore[arg-type]
    assert city.tokens == {
        "administrator": "x",
        "café owner": "merchant:cafe-owner 43200",
        "café cashier": "merchant:cafe-cashier 43200",
    }
