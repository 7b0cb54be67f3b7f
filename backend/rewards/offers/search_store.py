"""What searches read: shops of merchants that sell, and offers on sale, by the indexes made for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from bson import Int64

from backend.mongo.paging import page_by_moment
from backend.rewards.merchants.documents import MERCHANTS
from backend.rewards.merchants.model import MerchantId, MerchantStage, ShopId
from backend.rewards.offers.documents import OFFERS, offer_from_document
from backend.rewards.offers.model import OfferId, OfferStage
from backend.rewards.offers.rules import folded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.mongo.client import Database, Document
    from backend.mongo.paging import Place
    from backend.rewards.offers.model import Offer, OfferFilter

# Far more than a city has; whoever searches near a place reads as many at most.
MAX_SELLING = 5_000
MAX_NEAR = 10_000


class ShopPlace(NamedTuple):
    """Where a shop of a merchant is."""

    merchant: MerchantId
    shop: ShopId
    district: str
    lat_e6: int
    lon_e6: int


class Candidate(NamedTuple):
    """An offer that may be near: whose, and in which shops (none named: in all)."""

    offer: OfferId
    merchant: MerchantId
    shops: tuple[ShopId, ...]


class SearchReads:
    """Offers on sale as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_selling(self) -> list[MerchantId]:
        """Merchants whose offers citizens see; read from an index alone."""
        documents = await self._database.find(
            MERCHANTS.name, {"stage": MerchantStage.APPROVED.value}, limit=MAX_SELLING, fields=["_id"]
        )
        return [MerchantId(document["_id"]) for document in documents]

    async def find_shops(self, *, district: str | None, box: tuple[int, int, int, int] | None) -> list[ShopPlace]:
        """Shops of merchants that sell, in a district, or between latitudes and longitudes (low, high, low, high)."""
        match: dict[str, Any] = {}
        if district is not None:
            match["district"] = district
        if box is not None:
            south, north, west, east = box
            match["lat_e6"] = {"$gte": Int64(south), "$lte": Int64(north)}
            match["lon_e6"] = {"$gte": Int64(west), "$lte": Int64(east)}
        documents = await self._database.find(
            MERCHANTS.name,
            {"stage": MerchantStage.APPROVED.value, "shops": {"$elemMatch": match}},
            limit=MAX_SELLING,
            fields=["shops.id", "shops.district", "shops.lat_e6", "shops.lon_e6"],
        )
        return [
            ShopPlace(
                MerchantId(document["_id"]),
                ShopId(shop["id"]),
                shop["district"],
                int(shop["lat_e6"]),
                int(shop["lon_e6"]),
            )
            for document in documents
            for shop in document["shops"]
        ]

    async def list_newest(
        self,
        query: Mapping[str, Any],
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Offer]:
        """Offers that match, newest first."""
        documents = await page_by_moment(
            self._database,
            OFFERS.name,
            query,
            moment="created_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [offer_from_document(document) for document in documents]

    async def find_candidates(self, query: Mapping[str, Any]) -> list[Candidate]:
        """Offers that match, at most ten thousand of them, the newest."""
        documents = await self._database.find(
            OFFERS.name,
            query,
            limit=MAX_NEAR,
            sort=[("created_at", -1), ("_id", -1)],
            fields=["merchant", "terms.shops"],
        )
        return [
            Candidate(
                OfferId(document["_id"]),
                MerchantId(document["merchant"]),
                tuple(ShopId(shop) for shop in document["terms"]["shops"]),
            )
            for document in documents
        ]


def query_of(wanted: OfferFilter, merchants: Sequence[MerchantId], now: datetime) -> Document:
    """The query for offers of these merchants that pass the filter and can be redeemed some time today."""
    query: Document = {
        "stage": OfferStage.LIVE.value,
        "merchant": {"$in": list(merchants)},
        "terms.valid_from": {"$lte": now},
        "terms.valid_to": {"$gt": now},
    }
    if wanted.category is not None:
        query["terms.category"] = wanted.category.value
    if wanted.kind is not None:
        query["terms.kind"] = wanted.kind.value
    if wanted.affordable is not None:
        query["terms.price_points"] = {"$lte": Int64(wanted.affordable)}
    if wanted.text is not None:
        query["folded"] = {"$regex": re.escape(folded(wanted.text))}
    return query


def in_shops(query: Document, places: Sequence[ShopPlace]) -> Document:
    """The same for what is handed over in one of these shops; what names no shop is, in every shop of its merchant."""
    shops = [place.shop for place in places]
    return {**query, "$or": [{"terms.shops": {"$size": 0}}, {"terms.shops": {"$in": shops}}]}
