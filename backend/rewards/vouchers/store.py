"""Every query on vouchers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bson import Int64
from pymongo import UpdateOne

from backend.mongo.paging import page_by_moment
from backend.rewards.vouchers.documents import (
    NUMBERS,
    TRIES,
    VOUCHERS,
    standing,
    voucher_from_document,
    voucher_to_document,
)
from backend.rewards.vouchers.model import DisputeStage, VoucherId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from datetime import date, datetime

    from backend.kernel.ids import CitizenId
    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.transactions import Tx
    from backend.rewards.merchants.model import MerchantId
    from backend.rewards.offers.model import OfferId
    from backend.rewards.vouchers.model import Voucher

Place = tuple["datetime", str]


async def stream_vouchers(snapshot: Snapshot) -> AsyncIterator[tuple[Voucher, bool]]:
    """Every voucher of that instant, and whether its document is what it should be."""
    async for document in snapshot.stream(VOUCHERS.name, {}):
        voucher = voucher_from_document(document)
        yield voucher, voucher_to_document(voucher) == document


async def find_numbered(snapshot: Snapshot, numbers: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Voucher, citizen and merchant of each of the numbers that stands for one."""
    query = {"_id": {"$in": list(numbers)}}
    found = snapshot.stream(NUMBERS.name, query)
    return {item["_id"]: (item["voucher"], item["citizen"], item["merchant"]) async for item in found}


class Tries(NamedTuple):
    """How many codes were wrong, and how many are being looked at."""

    wrong: int
    trying: int


class VoucherWrites:
    """Vouchers inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def find_many(self, ids: Iterable[VoucherId]) -> dict[VoucherId, Voucher]:
        """Those of the vouchers that exist."""
        found = await self._tx.find(VOUCHERS.name, {"_id": {"$in": list(ids)}})
        return {voucher.id: voucher for voucher in map(voucher_from_document, found)}

    async def find(self, voucher: VoucherId) -> Voucher | None:
        """The voucher of that id."""
        return (await self.find_many([voucher])).get(voucher)

    async def count_redeemed(
        self, bounded: Mapping[tuple[CitizenId, OfferId], date | None]
    ) -> list[tuple[CitizenId, OfferId, str, int]]:
        """Citizen, offer, local day and units of what each citizen redeemed of each offer, since that day or ever.

        What limits bound is short: no citizen has more of an offer than its limits let through.
        """
        if not bounded:
            return []
        either = [
            {"citizen": citizen, "offer": offer, "counts": True, **({"day": {"$gte": day.isoformat()}} if day else {})}
            for (citizen, offer), day in bounded.items()
        ]
        found = await self._tx.find(VOUCHERS.name, {"$or": either}, ["citizen", "offer", "day", "units"])
        return [(item["citizen"], item["offer"], item["day"], int(item["units"])) for item in found]

    async def insert(self, vouchers: Sequence[Voucher]) -> None:
        """Insert new vouchers and their numbers; a number or voucher there already starts the transaction again."""
        await self._tx.insert_many(
            NUMBERS.name,
            [
                {
                    "_id": voucher.number,
                    "voucher": voucher.id,
                    "citizen": voucher.citizen,
                    "merchant": voucher.merchant,
                }
                for voucher in vouchers
            ],
        )
        await self._tx.insert_many(VOUCHERS.name, [voucher_to_document(voucher) for voucher in vouchers])

    async def change(self, before: Iterable[Voucher], after: Iterable[Voucher]) -> None:
        """Turn vouchers; one that changed since it was read starts the transaction again."""
        await self._tx.bulk_write(
            VOUCHERS.name,
            [
                UpdateOne(
                    {"_id": old.id, "citizen": old.citizen, "version": Int64(old.version)}, {"$set": standing(new)}
                )
                for old, new in zip(before, after, strict=True)
            ],
        )


class VoucherReads:
    """Vouchers as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_many(self, ids: Sequence[VoucherId]) -> dict[VoucherId, Voucher]:
        """Those of the vouchers that exist."""
        if not ids:
            return {}
        found = await self._database.find(VOUCHERS.name, {"_id": {"$in": list(ids)}}, limit=len(ids))
        return {voucher.id: voucher for voucher in map(voucher_from_document, found)}

    async def find_numbered(self, number: str, merchant: MerchantId) -> VoucherId | None:
        """The merchant's voucher with that number on its code."""
        found = await self._database.find_one(NUMBERS.name, {"_id": number, "merchant": merchant})
        return VoucherId(found["voucher"]) if found else None

    async def list_of_citizen(
        self, citizen: CitizenId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Voucher]:
        """The citizen's vouchers, newest first."""
        span = {"limit": limit, "older": older, "newer": newer, "newest": newest}
        return await self._page({"citizen": citizen}, moment="created_at", **span)

    async def list_captured(
        self, merchant: MerchantId, *, since: datetime, until: datetime, limit: int
    ) -> list[Voucher]:
        """Vouchers of which the merchant captured something in the period, at most ``limit``."""
        query = {"merchant": merchant, "captures": {"$elemMatch": {"at": {"$gte": since, "$lt": until}}}}
        found = await self._database.find(VOUCHERS.name, query, limit=limit, sort=[("captures.at", -1)])
        return [voucher_from_document(document) for document in found]

    async def list_disputed(
        self, *, limit: int, behind: Place | None, ahead: Place | None, last: bool
    ) -> list[Voucher]:
        """Vouchers with an open dispute, the longest waiting first; with ``last`` those next to the end."""
        query = {"dispute.stage": DisputeStage.OPEN.value}
        span = {"limit": limit, "older": ahead, "newer": behind, "newest": last}
        return (await self._page(query, moment="dispute.opened_at", **span))[::-1]

    async def list_over(self, now: datetime, *, limit: int) -> list[Voucher]:
        """Open vouchers whose time is over, longest ago first."""
        query = {"open": True, "expires_at": {"$lte": now}}
        found = await self._database.find(VOUCHERS.name, query, limit=limit, sort=[("expires_at", 1)])
        return [voucher_from_document(document) for document in found]

    async def find_tries(self, name: str) -> Tries:
        """What is noted under that name."""
        found = await self._database.find_one(TRIES.name, {"_id": name})
        return Tries(int(found["wrong"]), int(found["trying"])) if found else Tries(0, 0)

    async def note_try(self, name: str, *, wrong: int = 0, trying: int = 0, expires_at: datetime) -> Tries:
        """Note so many wrong codes more, and so many more or less that are being looked at; what is noted then."""
        change: Document = {
            "$inc": {"wrong": Int64(wrong), "trying": Int64(trying)},
            "$setOnInsert": {"expires_at": expires_at},
        }
        found = await self._database.find_one_and_update(TRIES.name, {"_id": name}, change, upsert=True)
        assert found is not None
        return Tries(int(found["wrong"]), int(found["trying"]))

    async def _page(self, query: Mapping[str, Any], *, moment: str, **span: Any) -> list[Voucher]:
        """A page by that moment, newest first."""
        found = await page_by_moment(self._database, VOUCHERS.name, query, moment=moment, **span)
        return [voucher_from_document(document) for document in found]
