"""Merchants, their members and the log of what was done to them, in MongoDB, and every query on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bson import Int64
from pymongo import UpdateOne

from backend.kernel.crypto import payload_hash
from backend.mongo.idempotency import KeyedWrites
from backend.mongo.paging import page_by_moment
from backend.rewards.merchants.documents import (
    LOG,
    MEMBERS,
    MERCHANTS,
    entry_from_document,
    entry_to_document,
    firm_to_document,
    member_from_document,
    member_to_document,
    merchant_from_document,
    merchant_to_document,
)
from backend.rewards.merchants.model import Desk, Firm
from backend.rewards.merchants.rules import MAX_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.rewards.merchants.model import Member, Merchant, MerchantId, MerchantLogEntry, MerchantStage


def digest_of(firm: Firm) -> str:
    """What the log notes of a merchant as it stands."""
    return payload_hash(firm_to_document(firm))


class MerchantWrites(KeyedWrites):
    """Merchants inside one MongoDB transaction."""

    async def find_merchant(self, merchant: str) -> Merchant | None:
        """The merchant of that id."""
        document = await self._tx.find_one(MERCHANTS.name, {"_id": merchant})
        return merchant_from_document(document) if document else None

    async def find_firm(self, merchant: str) -> Firm | None:
        """The merchant of that id with all who work or worked there."""
        found = await self.find_merchant(merchant)
        if found is None:
            return None
        documents = await self._tx.find(MEMBERS.name, {"merchant": merchant})
        return Firm(found, tuple(member_from_document(document) for document in documents))

    async def find_member(self, login: str) -> Member | None:
        """Whoever has that login, at work or not."""
        document = await self._tx.find_one(MEMBERS.name, {"_id": login})
        return member_from_document(document) if document else None

    async def is_code_held(self, credit_code: str) -> bool:
        """Whether a merchant that was not rejected is registered under the code."""
        return await self._tx.find_one(MERCHANTS.name, {"held_code": credit_code}) is not None

    async def insert(self, firm: Firm) -> None:
        """Begin a merchant; its members come from wherever they were."""
        await self._tx.insert_many(MERCHANTS.name, [merchant_to_document(firm.merchant)])
        await self._save_members(firm.members)

    async def save(self, before: Firm, after: Firm) -> None:
        """Put the firm after a change in the place of what it was before; ``after`` has the next version."""
        document = merchant_to_document(after.merchant)
        del document["_id"]
        await self._tx.update_one(
            MERCHANTS.name,
            {"_id": before.merchant.id, "version": Int64(before.merchant.version)},
            {"$set": document},
        )
        known = set(before.members)
        await self._save_members(member for member in after.members if member not in known)

    async def hold(self, merchant: Merchant) -> None:
        """Let no change of the merchant be committed beside this transaction, though this changes nothing of it.

        A document that is written, and written back, conflicts with whatever else writes it.
        """
        for change in (1, -1):
            await self._tx.update_one(MERCHANTS.name, {"_id": merchant.id}, {"$inc": {"version": Int64(change)}})

    async def _save_members(self, members: Iterable[Member]) -> None:
        changes = [
            UpdateOne({"_id": member.id}, {"$set": member_to_document(member)}, upsert=True) for member in members
        ]
        await self._tx.bulk_write(MEMBERS.name, changes)

    async def log(self, entry: MerchantLogEntry) -> None:
        """Append to the log."""
        await self._tx.insert_many(LOG.name, [entry_to_document(entry)])


class MerchantReads:
    """Merchants as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_desk(self, login: str) -> Desk | None:
        """Whoever works under that login, and where: one round trip, for every capture makes it."""
        found = await self._database.aggregate(
            MEMBERS.name,
            [
                {"$match": {"_id": login, "is_active": True}},
                {
                    "$lookup": {
                        "from": MERCHANTS.name,
                        "localField": "merchant",
                        "foreignField": "_id",
                        "as": "merchants",
                    }
                },
            ],
        )
        for document in found:
            for merchant in document["merchants"]:
                return Desk(merchant_from_document(merchant), member_from_document(document))
        return None

    async def find_merchants(self, ids: Iterable[MerchantId]) -> dict[MerchantId, Merchant]:
        """Those of the merchants that exist."""
        wanted = list(set(ids))
        if not wanted:
            return {}
        documents = await self._database.find(MERCHANTS.name, {"_id": {"$in": wanted}}, limit=len(wanted))
        return {merchant.id: merchant for merchant in map(merchant_from_document, documents)}

    async def list_members(self, merchant: MerchantId) -> list[Member]:
        """All who work or worked there, by login."""
        documents = await self._database.find(
            MEMBERS.name, {"merchant": merchant}, limit=MAX_MEMBERS, sort=[("_id", 1)]
        )
        return [member_from_document(document) for document in documents]

    async def list_merchants(
        self, stage: MerchantStage | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Merchant]:
        """Merchants in that stage or in any, by registration, newest first."""
        documents = await page_by_moment(
            self._database,
            MERCHANTS.name,
            {} if stage is None else {"stage": stage.value},
            moment="registered_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [merchant_from_document(document) for document in documents]

    async def list_log(
        self, merchant: str | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[MerchantLogEntry]:
        """What was done to that merchant and its offers, or to any, newest first."""
        documents = await page_by_moment(
            self._database,
            LOG.name,
            {} if merchant is None else {"merchant": merchant},
            moment="at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [entry_from_document(document) for document in documents]
