"""Offers and what bounds them: shops that they name stay, and what staff paused stays so until staff resume it."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import pytest

from backend.kernel.errors import InvalidInputError
from backend.rewards.merchants.errors import ShopInUseError
from backend.rewards.offers.errors import StaffPausedError
from backend.rewards.offers.model import OfferStage
from tests.integration.market import Market, open_market
from tests.unit.rewards.trading import RITA, ROOT, offer_terms, shop_details, works

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

pytestmark = pytest.mark.anyio
CHEN = works("chen")
KEY = "key-0001"


@pytest.fixture
async def market(services: Services) -> Market:
    """Two merchants that sell, of the owners chen and wu."""
    made = open_market(services)
    await made.approved()
    await made.approved("wu", number=2)
    return made


async def test_a_shop_that_an_offer_names_stays_until_the_offer_is_ended(market: Market, clock: ManualClock) -> None:
    shop = (await market.merchants.desk(CHEN)).merchant.shops[0].id
    remove = partial(market.merchants.remove_shop, CHEN, None, shop, key=KEY)
    await market.live("wu")
    await market.live()
    offer = await market.draft(shops=(shop,))

    async def stays() -> None:
        refused = await market.refused(remove(), ShopInUseError)
        assert isinstance(refused, ShopInUseError)
        assert refused.by == (f"兑换项目 {offer.id}", f"the offer {offer.id}")

    await stays()
    waiting = await market.offers.submit(CHEN, offer.id, key=KEY)
    await stays()
    await market.offers.approve(RITA, offer.id, seen=waiting.version, key=KEY)
    await stays()
    dearer = offer_terms(clock.now(), price_points=600)
    await market.offers.update(CHEN, offer.id, dataclasses.replace(dearer, shops=(shop,)), key=KEY)
    await market.offers.pause(CHEN, offer.id, key=KEY)
    await stays()
    await market.offers.end(CHEN, offer.id, key=KEY)
    assert (await remove()).shops == ()


async def test_an_offer_names_no_shop_that_is_removed_meanwhile(market: Market, clock: ManualClock) -> None:
    terms = offer_terms(clock.now())
    offers = [await market.live() for _ in range(10)]
    for offer in offers:
        opened = await market.merchants.save_shop(CHEN, None, None, shop_details(), key=market.key())
        shop = opened.shops[-1].id
        outcomes = await asyncio.gather(
            market.offers.update(CHEN, offer.id, dataclasses.replace(terms, shops=(shop,)), key=market.key()),
            market.merchants.remove_shop(CHEN, None, shop, key=market.key()),
            return_exceptions=True,
        )
        failed = [type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)]
        assert failed in ([InvalidInputError], [ShopInUseError])
        known = {shop.id for shop in (await market.merchants.desk(CHEN)).merchant.shops}
        assert set((await market.offers.find_offers([offer.id]))[offer.id].terms.shops) <= known


async def test_what_staff_paused_only_staff_resume(market: Market) -> None:
    live = await market.live()
    paused = await market.offers.pause(ROOT, live.id, key=KEY)
    assert paused.paused_by_staff
    assert (await market.offers.find_offers([live.id]))[live.id] == paused
    await market.refused(market.offers.resume(CHEN, live.id, key=KEY), StaffPausedError)
    resumed = await market.offers.resume(RITA, live.id, key=KEY)
    assert (resumed.stage, resumed.paused_by_staff) == (OfferStage.LIVE, False)
