"""Finds what citizens can redeem: offers on sale, of merchants that sell, within their validity; nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity.rules import MAX_POINTS, require_note
from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.merchants.rules import require_between
from backend.rewards.offers import rules
from backend.rewards.offers.model import FoundOffer
from backend.rewards.offers.nearness import box_e6, distance_m
from backend.rewards.offers.rules import MAX_LAT_E6, MAX_LON_E6
from backend.rewards.offers.search_store import SearchReads, in_shops, query_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backend.kernel.clock import Clock
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.rewards.merchants.model import MerchantId, ShopId
    from backend.rewards.offers.model import Near, OfferFilter, OfferId
    from backend.rewards.offers.search_store import Candidate, ShopPlace
    from backend.rewards.offers.store import OfferReads

    Distance = tuple[int, OfferId]

# A sixteenth and a quarter of the radius: in a city the first ring holds a page, so that nobody reads ten thousand
# offers for twenty; more rings would only search more often for what is nowhere.
RINGS = (4, 2)


class OfferSearch:
    """Searches of one programme."""

    def __init__(self, database: Database, offers: OfferReads, clock: Clock, districts: frozenset[str]) -> None:
        self._reads = SearchReads(database)
        self._offers = offers
        self._clock = clock
        self._districts = districts

    async def list_newest(
        self, wanted: OfferFilter, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[FoundOffer]:
        """Offers that pass the filter, newest first.

        Raises:
            InvalidInputError: a field of the filter.
        """
        self._require(wanted)
        now = self._clock.now()
        if wanted.district is None:
            query = query_of(wanted, await self._reads.find_selling(), now)
        else:
            places = await self._places(wanted.district, None)
            query = in_shops(query_of(wanted, _merchants(places), now), places)
        found = await self._reads.list_newest(query, limit=limit, older=older, newer=newer, newest=newest)
        return [FoundOffer(offer, None) for offer in found]

    async def list_nearest(
        self,
        wanted: OfferFilter,
        near: Near,
        *,
        limit: int,
        after: Distance | None,
        before: Distance | None,
        last: bool,
    ) -> list[FoundOffer]:
        """Offers that pass the filter, handed over within the radius, nearest first.

        Places in the list are distance and id, so a page goes on where the last one ended.

        Raises:
            InvalidInputError: a field of the filter, or a place that is none.
        """
        self._require(wanted)
        rules.require_near(near)
        apart = {
            place: distance_m(near.lat_e6, near.lon_e6, place.lat_e6, place.lon_e6)
            for place in await self._places(wanted.district, _box(near))
        }
        ordered: list[Distance] = []
        for radius in _rings(near.radius_m, after, last=last):
            within = {place: metres for place, metres in apart.items() if metres <= radius}
            ordered = [
                found
                for found in await self._distances(wanted, within)
                if (after is None or found > after) and (before is None or found < before)
            ]
            # Whatever is within the ring is found, so nothing beyond it comes before.
            if len(ordered) >= limit:
                break
        page = (ordered[-limit:] if limit else []) if last else ordered[:limit]
        offers = await self._offers.find_offers(offer for _, offer in page)
        return [FoundOffer(offers[offer], metres) for metres, offer in page if offer in offers]

    async def _distances(self, wanted: OfferFilter, within: dict[ShopPlace, int]) -> list[Distance]:
        """Offers that pass the filter and are handed over in these shops, the nearest first."""
        if not within:
            return []
        query = query_of(wanted, _merchants(within), self._clock.now())
        return sorted(_distances(await self._reads.find_candidates(in_shops(query, list(within))), within))

    async def _places(self, district: str | None, box: tuple[int, int, int, int] | None) -> list[ShopPlace]:
        """Shops in the district; those of a box are looked at again by distance."""
        found = await self._reads.find_shops(district=district, box=box)
        return [place for place in found if district is None or place.district == district]

    def _require(self, wanted: OfferFilter) -> None:
        if wanted.text is not None:
            require_note("text", wanted.text, limit=rules.MAX_SOUGHT)
        if wanted.district is not None and wanted.district not in self._districts:
            raise InvalidInputError("district", Text("不是本项目的区县", "not a district of this programme"))
        if wanted.affordable is not None:
            require_between("affordable", wanted.affordable, 0, MAX_POINTS)


def _rings(radius_m: int, after: Distance | None, *, last: bool) -> list[int]:
    """Radii to look in one after the other; none within which the page does not even begin."""
    begins = after[0] if after else 0
    inner = [] if last else [radius_m >> shift for shift in RINGS]
    return [*(radius for radius in inner if radius > begins), radius_m]


def _merchants(places: Iterable[ShopPlace]) -> list[MerchantId]:
    return sorted({place.merchant for place in places})


def _box(near: Near) -> tuple[int, int, int, int]:
    """Bounds of latitude and longitude around the circle; all longitudes where it reaches over the date line."""
    height, width = box_e6(near.lat_e6, near.radius_m)
    west, east = near.lon_e6 - width, near.lon_e6 + width
    if west < -MAX_LON_E6 or east > MAX_LON_E6:
        west, east = -MAX_LON_E6, MAX_LON_E6
    return max(near.lat_e6 - height, -MAX_LAT_E6), min(near.lat_e6 + height, MAX_LAT_E6), west, east


def _distances(candidates: Sequence[Candidate], within: dict[ShopPlace, int]) -> Iterable[Distance]:
    """How far each candidate is: as far as the nearest of its shops."""
    of_merchant: dict[MerchantId, dict[ShopId, int]] = {}
    for place, metres in within.items():
        of_merchant.setdefault(place.merchant, {})[place.shop] = metres
    for candidate in candidates:
        shops = of_merchant[candidate.merchant]
        reached = [shops[shop] for shop in candidate.shops or shops if shop in shops]
        if reached:
            yield min(reached), candidate.offer
