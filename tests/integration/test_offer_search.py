"""Finding offers: what is on sale and nothing else, by every filter, in a stable order, page by page, by index."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.offers.documents import OFFERS, offer_to_document
from backend.rewards.offers.model import Near, OfferCategory, OfferFilter, OfferId, OfferKind
from backend.rewards.offers.search_store import query_of
from tests.integration.market import Market, open_market
from tests.unit.rewards.trading import (
    DAY,
    LAT_E6,
    LON_E6,
    ROOT,
    code_terms,
    donation_terms,
    offer_terms,
    shop_details,
    works,
)

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.rewards.merchants.model import ShopId
    from backend.rewards.offers.model import Offer
    from backend.runtime import Services

pytestmark = pytest.mark.anyio
KEY = "key-0001"
HERE = Near(LAT_E6, LON_E6, 50_000)
EVERYTHING = OfferFilter()
# About a kilometre to the north.
KM_E6 = 8_994


@pytest.fixture
async def market(services: Services) -> Market:
    """No merchants yet."""
    return open_market(services)


async def newest(market: Market, wanted: OfferFilter = EVERYTHING, **given: Any) -> list[str]:
    """Chinese titles of what is found, newest first."""
    asked = {"limit": 50, "older": None, "newer": None, "newest": True, **given}
    found = await market.offers.search.list_newest(wanted, **asked)
    assert all(one.distance_m is None for one in found)
    return [one.offer.terms.title.zh for one in found]


async def nearest(
    market: Market, near: Near = HERE, wanted: OfferFilter = EVERYTHING, **given: Any
) -> list[tuple[str, int | None]]:
    """Chinese titles and distances of what is found, nearest first."""
    asked = {"limit": 50, "after": None, "before": None, "last": False, **given}
    found = await market.offers.search.list_nearest(wanted, near, **asked)
    return [(one.offer.terms.title.zh, one.distance_m) for one in found]


def titled(zh: str, en: str = "thing") -> dict[str, Any]:
    """Terms of that title."""
    return {"title": Text(zh, en)}


async def test_only_what_can_be_redeemed_is_found(market: Market, clock: ManualClock) -> None:
    await market.approved()
    await market.live(**titled("茶"))
    await market.draft(**titled("草稿"))
    paused = await market.live(**titled("暂停"))
    ended = await market.live(**titled("结束"))
    await market.live(**titled("未来"), valid_from=clock.now() + DAY, valid_to=clock.now() + 2 * DAY)
    brief = await market.live(**titled("短"), valid_to=clock.now() + timedelta(hours=1))
    await market.offers.pause(works("chen"), paused.id, key=KEY)
    await market.offers.end(works("chen"), ended.id, key=KEY)
    other = await market.approved("wu", number=2)
    await market.live("wu", **titled("停业"))
    assert sorted(await newest(market)) == sorted(["茶", "短", "停业"])
    await market.merchants.suspend(ROOT, other.id, "complaints", key=KEY)
    assert sorted(await newest(market)) == sorted(["茶", "短"])
    assert sorted(await nearest(market)) == sorted([("茶", 0), ("短", 0)])
    clock.advance(timedelta(hours=1))
    assert brief.terms.valid_to == clock.now()
    assert await newest(market) == ["茶"]
    clock.advance(timedelta(hours=23))
    assert sorted(await newest(market)) == sorted(["未来", "茶"])


async def test_every_filter_lets_its_own_pass(market: Market, clock: ManualClock) -> None:
    await market.approved()
    for made in (
        {**titled("绿茶", "Green Tea (100%)"), "price_points": 100},
        {**titled("红茶", "BLACK tea"), "price_points": 200},
        {**titled("电影票", "Cinema"), "price_points": 300, "category": OfferCategory.CULTURE},
        {**titled("种树", "A tree"), "terms": donation_terms},
        {**titled("周卡", "A week"), "terms": code_terms},
    ):
        clock.advance(timedelta(minutes=1))
        await market.live(**made)
    everything = ["周卡", "种树", "电影票", "红茶", "绿茶"]
    for wanted, expected in (
        (EVERYTHING, everything),
        (OfferFilter(category=OfferCategory.CULTURE), ["电影票"]),
        (OfferFilter(category=OfferCategory.SPORT), []),
        (OfferFilter(kind=OfferKind.DONATION), ["种树"]),
        (OfferFilter(kind=OfferKind.VOUCHER), ["电影票", "红茶", "绿茶"]),
        (OfferFilter(affordable=200), ["红茶", "绿茶"]),
        (OfferFilter(affordable=199), ["绿茶"]),
        (OfferFilter(affordable=0), []),
        (OfferFilter(text="茶"), ["红茶", "绿茶"]),
        (OfferFilter(text="TEA"), ["红茶", "绿茶"]),
        (OfferFilter(text="ｔｅａ"), ["红茶", "绿茶"]),
        (OfferFilter(text="k t"), ["红茶"]),
        # What means something to a pattern is itself here.
        (OfferFilter(text="(100%)"), ["绿茶"]),
        (OfferFilter(text="."), []),
        (OfferFilter(text=".*"), []),
        (OfferFilter(text="tea", affordable=100, category=OfferCategory.FOOD), ["绿茶"]),
    ):
        assert (wanted, await newest(market, wanted)) == (wanted, expected)
        assert sorted(title for title, _ in await nearest(market, HERE, wanted)) == sorted(expected)


async def test_a_filter_that_cannot_be_is_refused(market: Market) -> None:
    for wanted in (
        OfferFilter(text=""),
        OfferFilter(text="x" * 41),
        OfferFilter(text="a\nb"),
        OfferFilter(district="玄武区"),
        OfferFilter(affordable=-1),
    ):
        with pytest.raises(InvalidInputError):
            await newest(market, wanted)
        with pytest.raises(InvalidInputError):
            await nearest(market, HERE, wanted)
    with pytest.raises(InvalidInputError):
        await nearest(market, dataclasses.replace(HERE, radius_m=50_001))


async def two_shops(market: Market, owner: str, number: int, **second: Any) -> tuple[ShopId, ShopId]:
    """A merchant with a shop in the middle of the city and another."""
    await market.approved(owner, number)
    details = shop_details(**second)
    merchant = await market.merchants.save_shop(works(owner), None, None, details, key=market.key())
    first, other = merchant.shops
    return first.id, other.id


async def test_a_district_is_where_things_are_handed_over(market: Market) -> None:
    here, there = await two_shops(market, "chen", 1, district="润州区")
    await market.live(**titled("两店"))
    await market.live(**titled("大市口"), shops=(here,))
    await market.live(**titled("润州"), shops=(there,))
    await market.approved("wu", number=2, shops=0)
    await market.live("wu", **titled("线上"))
    assert sorted(await newest(market)) == sorted(["两店", "大市口", "润州", "线上"])
    assert sorted(await newest(market, OfferFilter(district="京口区"))) == sorted(["两店", "大市口"])
    assert sorted(await newest(market, OfferFilter(district="润州区"))) == sorted(["两店", "润州"])
    assert await newest(market, OfferFilter(district="丹徒区")) == []
    near = await nearest(market, HERE, OfferFilter(district="润州区"))
    assert sorted(near) == sorted([("两店", 0), ("润州", 0)])


async def test_the_nearest_shop_counts_and_the_radius_bounds(market: Market) -> None:
    here, there = await two_shops(market, "chen", 1, lat_e6=LAT_E6 + 10 * KM_E6)
    await market.live(**titled("两店"))
    await market.live(**titled("远店"), shops=(there,))
    await two_shops(market, "wu", 2, lat_e6=LAT_E6 + 2 * KM_E6)
    await market.live("wu", **titled("二公里"))
    await market.merchants.remove_shop(works("wu"), None, (await first_shop(market, "wu")), key=KEY)
    assert await nearest(market) == [("两店", 0), ("二公里", 2_000), ("远店", 10_000)]
    assert await nearest(market, dataclasses.replace(HERE, radius_m=9_999)) == [("两店", 0), ("二公里", 2_000)]
    assert await nearest(market, dataclasses.replace(HERE, radius_m=10_000)) == await nearest(market)
    assert await nearest(market, Near(LAT_E6 + 10 * KM_E6, LON_E6, 1)) != []
    assert await nearest(market, Near(-LAT_E6, LON_E6, 50_000)) == []
    assert await nearest(market, Near(0, 180_000_000, 50_000)) == []
    # A shop that moves takes its offers along.
    moved = shop_details(lat_e6=LAT_E6 + 20 * KM_E6)
    await market.merchants.save_shop(works("chen"), None, here, moved, key=KEY)
    after = await nearest(market)
    assert after[0] == ("二公里", 2_000)
    assert sorted(after[1:]) == sorted([("两店", 10_000), ("远店", 10_000)])


async def first_shop(market: Market, owner: str) -> ShopId:
    """The shop that the owner opened first."""
    return (await market.merchants.desk(works(owner))).merchant.shops[0].id


async def stored(market: Market, count: int, **changes: Any) -> list[Offer]:
    """So many copies of an offer on sale, put into the database by twos of one moment."""
    live = await market.live(**titled("零", "zero"))
    made = [
        dataclasses.replace(
            live,
            id=OfferId(f"off_{number:06}"),
            created_at=live.created_at + timedelta(milliseconds=number // 2),
            terms=dataclasses.replace(live.terms, title=Text(f"第{number}", f"no {number}"), **changes),
        )
        for number in range(1, count)
    ]
    await market.services.database.insert_many(OFFERS.name, [offer_to_document(offer) for offer in made])
    return sorted([live, *made], key=lambda offer: (offer.created_at, offer.id), reverse=True)


async def test_pages_meet_without_gap_or_repetition(market: Market) -> None:
    await market.approved()
    expected = [offer.id for offer in await stored(market, 23)]
    search, older = market.offers.search, None
    pages: list[str] = []
    while True:
        found = await search.list_newest(EVERYTHING, limit=5, older=older, newer=None, newest=True)
        pages += [one.offer.id for one in found]
        if len(found) < 5:
            break
        older = (found[-1].offer.created_at, found[-1].offer.id)
    assert pages == expected
    last = await search.list_newest(EVERYTHING, limit=5, older=None, newer=None, newest=False)
    assert [one.offer.id for one in last] == expected[-5:]
    place = (last[0].offer.created_at, last[0].offer.id)
    before = await search.list_newest(EVERYTHING, limit=5, older=None, newer=place, newest=False)
    assert [one.offer.id for one in before] == expected[-10:-5]


async def test_pages_by_distance_meet_too(market: Market) -> None:
    for number in range(7):
        await market.approved(f"m{number}", number, shops=0)
        details = shop_details(lat_e6=LAT_E6 + number // 2 * KM_E6)
        await market.merchants.save_shop(works(f"m{number}"), None, None, details, key=market.key())
        await market.live(f"m{number}")
    search, after = market.offers.search, None
    whole = await search.list_nearest(EVERYTHING, HERE, limit=50, after=None, before=None, last=False)
    places = [(one.distance_m or 0, one.offer.id) for one in whole]
    assert places == sorted(places)
    assert [metres for metres, _ in places] == [0, 0, 1_000, 1_000, 2_000, 2_000, 3_000]
    found: list[Any] = []
    while True:
        page = await search.list_nearest(EVERYTHING, HERE, limit=3, after=after, before=None, last=False)
        found += page
        if len(page) < 3:
            break
        after = (page[-1].distance_m or 0, page[-1].offer.id)
    assert found == whole
    tail = await search.list_nearest(EVERYTHING, HERE, limit=2, after=None, before=places[5], last=True)
    assert tail == whole[3:5]
    assert await search.list_nearest(EVERYTHING, HERE, limit=0, after=None, before=None, last=True) == []


@pytest.mark.parametrize(
    "wanted",
    [
        EVERYTHING,
        OfferFilter(text="第1"),
        OfferFilter(text="nothing has this"),
        OfferFilter(category=OfferCategory.FOOD, kind=OfferKind.VOUCHER, affordable=500, text="no 1"),
    ],
)
async def test_a_page_is_found_by_its_index_and_fetches_what_it_shows(market: Market, wanted: OfferFilter) -> None:
    merchant = await market.approved()
    await stored(market, 300)
    query = query_of(wanted, [merchant.id], market.services.clock.now())
    plan = await market.services.database.raw.command(
        {
            "explain": {
                "find": OFFERS.name,
                "filter": query,
                "sort": {"created_at": -1, "_id": -1},
                "limit": 10,
            },
            "verbosity": "executionStats",
        }
    )
    stats = plan["executionStats"]
    assert "SORT" not in str(plan["queryPlanner"]["winningPlan"]).replace("SORT_", "")
    assert stats["totalDocsExamined"] == stats["nReturned"] <= 10
    assert stats["nReturned"] == (0 if wanted.text == "nothing has this" else 10)


async def test_offers_of_the_programme_are_read_in_both_languages(market: Market) -> None:
    await market.approved()
    made = await market.live(title=Text("ＡＢ茶", "Straße"))
    assert made.terms == offer_terms(made.terms.valid_from, title=made.terms.title)
    for text in ("ab茶", "STRASSE", "straße"):
        assert await newest(market, OfferFilter(text=text)) == ["ＡＢ茶"]
    # No text reaches from one title into the other.
    assert await newest(market, OfferFilter(text="茶s")) == []


async def test_nothing_nearer_is_missed_however_the_radius_is_searched(market: Market) -> None:
    # Thirty shops along a road of six kilometres, an offer each, and one offer of all shops.
    merchant = await market.approved(shops=0)
    for number in range(30):
        details = shop_details(lat_e6=LAT_E6 + number * KM_E6 // 5)
        merchant = await market.merchants.save_shop(works("chen"), None, None, details, key=market.key())
    base = await market.live(**titled("全部"))
    made = [
        dataclasses.replace(
            base, id=OfferId(f"off_{number:06}"), terms=dataclasses.replace(base.terms, shops=(shop.id,))
        )
        for number, shop in enumerate(merchant.shops)
    ]
    await market.services.database.insert_many(OFFERS.name, [offer_to_document(offer) for offer in made])
    search = market.offers.search
    whole = await search.list_nearest(
        EVERYTHING, dataclasses.replace(HERE, radius_m=7_000), limit=100, after=None, before=None, last=True
    )
    places = [(found.distance_m or 0, found.offer.id) for found in whole]
    assert places == sorted(places)
    assert len(places) == 31
    assert places[-1][0] in {5_799, 5_800}
    for radius_m in (1, 100, 500, 2_000, 7_000, 50_000):
        near = dataclasses.replace(HERE, radius_m=radius_m)
        within = [place for place in places if place[0] <= radius_m]
        for limit in (1, 4, 31, 32):
            for begin in (0, 1, 7, 20):
                after = within[begin - 1] if 0 < begin <= len(within) else None
                page = await search.list_nearest(EVERYTHING, near, limit=limit, after=after, before=None, last=False)
                expected = within[begin if after else 0 :][:limit]
                assert [(found.distance_m, found.offer.id) for found in page] == expected
