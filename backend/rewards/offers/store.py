"""Offers, partners' codes and pictures in MongoDB, and every query on them but the search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bson import Int64

from backend.kernel.crypto import payload_hash
from backend.mongo.client import DuplicateError
from backend.mongo.paging import page_by_moment
from backend.rewards.offers.documents import CODES, OFFERS, PICTURES, offer_from_document, offer_to_document
from backend.rewards.offers.model import OfferStage, StockKind
from backend.rewards.stock.model import stock_pot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from backend.mongo.client import Database, Snapshot
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Tx
    from backend.rewards.merchants.model import MerchantId, ShopId
    from backend.rewards.offers.model import Offer, OfferId
    from backend.rewards.stock.model import PotId


def digest_of(offer: Offer) -> str:
    """What the log notes of an offer as it stands."""
    return payload_hash(offer_to_document(offer))


async def find_offer_at(tx: Tx, merchant: MerchantId, shop: ShopId) -> str | None:
    """An offer of the merchant that is not ended and names the shop; terms proposed name no other shops than these."""
    wanted = {"merchant": merchant, "stage": {"$ne": OfferStage.ENDED.value}, "terms.shops": shop}
    document = await tx.find_one(OFFERS.name, wanted)
    return document["_id"] if document else None


@dataclass(frozen=True, slots=True)
class SealedCode:
    """A third party's code as stored: its own id, and the code encrypted."""

    id: str
    sealed: str


class OfferWrites:
    """Offers inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def find_offer(self, offer: str) -> Offer | None:
        """The offer of that id."""
        document = await self._tx.find_one(OFFERS.name, {"_id": offer})
        return offer_from_document(document) if document else None

    async def has_picture(self, picture: str) -> bool:
        """Whether a picture of that id was uploaded."""
        return bool(await self._tx.find(PICTURES.name, {"_id": picture}, ["_id"]))

    async def insert(self, offer: Offer) -> None:
        """Begin an offer."""
        await self._tx.insert_many(OFFERS.name, [offer_to_document(offer)])

    async def save(self, before: Offer, after: Offer) -> None:
        """Put the offer after a change in the place of what it was before; ``after`` has the next version."""
        document = offer_to_document(after)
        del document["_id"]
        await self._tx.update_one(OFFERS.name, {"_id": before.id, "version": Int64(before.version)}, {"$set": document})

    async def known_codes(self, ids: Sequence[str]) -> frozenset[str]:
        """Those of the codes that the merchant has added before."""
        found = await self._tx.find(CODES.name, {"_id": {"$in": list(ids)}}, ["_id"])
        return frozenset(document["_id"] for document in found)

    async def insert_codes(self, offer: OfferId, codes: Sequence[SealedCode]) -> None:
        """Add codes that nobody has yet."""
        await self._tx.insert_many(
            CODES.name,
            [
                {"_id": code.id, "offer": offer, "sealed": code.sealed, "voucher": None, "given_at": None}
                for code in codes
            ],
        )


async def list_sizes(snapshot: Snapshot) -> dict[PotId, int]:
    """How many units there are in all of each offer that bounds them so, by the pot they are taken from."""
    query = {"terms.stock.kind": StockKind.TOTAL.value}
    offers = snapshot.stream(OFFERS.name, query, fields=["terms.stock"])
    return {stock_pot(offer["_id"]): int(offer["terms"]["stock"]["units"]) async for offer in offers}


class OfferReads:
    """Offers as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_offers(self, ids: Iterable[OfferId]) -> dict[OfferId, Offer]:
        """Those of the offers that exist."""
        wanted = list(set(ids))
        if not wanted:
            return {}
        documents = await self._database.find(OFFERS.name, {"_id": {"$in": wanted}}, limit=len(wanted))
        return {offer.id: offer for offer in map(offer_from_document, documents)}

    async def list_of_merchant(
        self, merchant: MerchantId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Offer]:
        """A merchant's offers in all stages, newest first."""
        return await self._page({"merchant": merchant}, "created_at", limit, older, newer, newest=newest)

    async def list_waiting(self, *, limit: int, older: Place | None, newer: Place | None, newest: bool) -> list[Offer]:
        """Offers that wait for approval, last submitted first."""
        return await self._page({"submitted_at": {"$type": "date"}}, "submitted_at", limit, older, newer, newest=newest)

    async def _page(
        self,
        query: Mapping[str, Any],
        moment: str,
        limit: int,
        older: Place | None,
        newer: Place | None,
        *,
        newest: bool,
    ) -> list[Offer]:
        documents = await page_by_moment(
            self._database, OFFERS.name, query, moment=moment, limit=limit, older=older, newer=newer, newest=newest
        )
        return [offer_from_document(document) for document in documents]


class CodeStore:
    """Partners' codes outside of transactions: one document, one change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_given(self, voucher: str) -> str | None:
        """The sealed code that the voucher has."""
        document = await self._database.find_one(CODES.name, {"voucher": voucher})
        return document["sealed"] if document else None

    async def claim(self, offer: OfferId, voucher: str, start: str, now: datetime) -> str | None:
        """Give the voucher a free code, the first from ``start`` on or the first of all; None where none is left.

        The ids are hashes, so requests that start at random places mostly want different codes.
        """
        for bound in ({"_id": {"$gte": start}}, {}):
            try:
                document = await self._database.find_one_and_update(
                    CODES.name,
                    {"offer": offer, "voucher": {"$type": "null"}, **bound},
                    {"$set": {"voucher": voucher, "given_at": now}},
                    sort=[("_id", 1)],
                )
            except DuplicateError:
                # Another request has just given the voucher one.
                return await self.find_given(voucher)
            if document is not None:
                sealed: str = document["sealed"]
                return sealed
        # The last one went, perhaps to this very voucher.
        return await self.find_given(voucher)


class PictureStore:
    """Pictures by the digest of their bytes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, picture: str, webp: bytes, now: datetime) -> None:
        """Store the picture where it is new."""
        await self._database.insert_many(PICTURES.name, [{"_id": picture, "webp": webp, "at": now}])

    async def find(self, picture: str) -> bytes | None:
        """The picture's bytes."""
        document = await self._database.find_one(PICTURES.name, {"_id": picture})
        return bytes(document["webp"]) if document else None
