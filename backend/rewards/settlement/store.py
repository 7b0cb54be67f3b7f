"""Every query on statements and accounts, and those of settlement on merchants and vouchers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.ids import TransactionId
from backend.mongo.idempotency import KeyedWrites
from backend.mongo.paging import page_by_moment
from backend.outbox.relay import write_item
from backend.rewards.merchants.documents import MERCHANTS
from backend.rewards.merchants.model import MerchantId, ShopId
from backend.rewards.offers.model import OfferKind
from backend.rewards.settlement.documents import (
    ACCOUNTS,
    LISTED,
    STATEMENTS,
    account_from_document,
    account_to_document,
    listed_documents,
    read_sums,
    standing,
    statement_from_document,
    statement_to_document,
)
from backend.rewards.settlement.model import Account, Handover, Statement, StatementId, StatementStage, Sums
from backend.rewards.vouchers.documents import VOUCHERS, voucher_from_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime

    from backend.mongo.client import Database, Snapshot
    from backend.mongo.paging import Place
    from backend.outbox.relay import Item

# Two statements a week for a hundred years.
MAX_HISTORY = 10_000


class SettlementWrites(KeyedWrites):
    """Statements and accounts inside one MongoDB transaction."""

    async def find_account(self, merchant: MerchantId) -> Account | None:
        """The merchant's account; None where nothing was settled yet."""
        found = await self._tx.find_one(ACCOUNTS.name, {"_id": merchant})
        return account_from_document(found) if found else None

    async def put_account(self, before: Account | None, after: Account) -> None:
        """Write the account anew; one changed since it was read starts the transaction again."""
        document = account_to_document(after)
        if before is None:
            await self._tx.insert_many(ACCOUNTS.name, [document])
        else:
            query = {"_id": before.merchant, "version": Int64(before.version)}
            del document["_id"]
            await self._tx.update_one(ACCOUNTS.name, query, {"$set": document})

    async def insert(self, statement: Statement, ids: Sequence[TransactionId]) -> None:
        """Insert a new statement, and which transactions it lists."""
        await self._tx.insert_many(STATEMENTS.name, [statement_to_document(statement)])
        if ids:
            await self._tx.insert_many(LISTED.name, listed_documents(statement, ids))

    async def find(self, statement: StatementId) -> Statement | None:
        """The statement of that id."""
        found = await self._tx.find_one(STATEMENTS.name, {"_id": statement})
        return statement_from_document(found) if found else None

    async def change(self, before: Statement, after: Statement) -> None:
        """Bring a statement into another stage; one changed since it was read starts the transaction again."""
        query = {"_id": before.id, "stage": before.stage.value}
        await self._tx.update_one(STATEMENTS.name, query, {"$set": standing(after)})

    async def find_unpaid_before(self, statement: Statement) -> int | None:
        """The number of a statement of the merchant before this one that is not paid."""
        query = {
            "merchant": statement.merchant,
            "number": {"$lt": Int64(statement.number)},
            "stage": {"$ne": StatementStage.PAID.value},
        }
        found = await self._tx.find_one(STATEMENTS.name, query)
        return int(found["number"]) if found else None

    async def write_item(self, item: Item, now: datetime) -> None:
        """Commit what is to be told of it."""
        await write_item(self._tx, item, now)


async def stream_statements(snapshot: Snapshot) -> AsyncIterator[Statement]:
    """Every statement there is."""
    async for document in snapshot.stream(STATEMENTS.name, {}):
        yield statement_from_document(document)


class SettlementReads:
    """Statements and accounts as committed, and what settlement asks of merchants and vouchers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_merchants(self, after: MerchantId | None, *, limit: int) -> list[MerchantId]:
        """Ids of all merchants, in their order."""
        query = {"_id": {"$gt": after}} if after else {}
        found = await self._database.find(MERCHANTS.name, query, limit=limit, sort=[("_id", 1)], fields=["_id"])
        return [MerchantId(document["_id"]) for document in found]

    async def find_accounts(self, merchants: Sequence[MerchantId]) -> dict[MerchantId, Account]:
        """The accounts that exist among these merchants'."""
        found = await self._database.find(ACCOUNTS.name, {"_id": {"$in": list(merchants)}}, limit=len(merchants) or 1)
        return {account.merchant: account for account in map(account_from_document, found)}

    async def list_history(self, merchant: MerchantId) -> list[Statement]:
        """All statements of the merchant by number."""
        found = await self._database.find(
            STATEMENTS.name, {"merchant": merchant}, limit=MAX_HISTORY, sort=[("number", 1)]
        )
        return [statement_from_document(document) for document in found]

    async def find_listed(self, merchant: MerchantId, until: datetime) -> set[TransactionId]:
        """What statements of the period that ended then list."""
        found = await self._database.find(LISTED.name, {"merchant": merchant, "until": until}, limit=MAX_HISTORY)
        return {TransactionId(one) for document in found for one in document["ids"]}

    async def find_late(self, merchant: MerchantId, until: datetime) -> dict[TransactionId, StatementId]:
        """What corrections of that period list, each with its correction."""
        query = {"merchant": merchant, "until": until, "late": True}
        found = await self._database.find(LISTED.name, query, limit=MAX_HISTORY)
        return {TransactionId(one): StatementId(document["statement"]) for document in found for one in document["ids"]}

    async def list_unreconciled(self, *, limit: int) -> list[Statement]:
        """Statements on which book and vouchers did not agree, the newest first."""
        query = {"stage": StatementStage.UNRECONCILED.value}
        found = await self._database.find(STATEMENTS.name, query, limit=limit, sort=[("made_at", -1), ("_id", -1)])
        return [statement_from_document(document) for document in found]

    async def find_many(self, ids: Sequence[StatementId]) -> dict[StatementId, Statement]:
        """Those of the statements that exist."""
        found = await self._database.find(STATEMENTS.name, {"_id": {"$in": list(ids)}}, limit=len(ids) or 1)
        return {statement.id: statement for statement in map(statement_from_document, found)}

    async def list_page(
        self,
        *,
        merchant: MerchantId | None,
        stage: StatementStage | None,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Statement]:
        """Statements of a merchant or of all, in that stage or in any, newest first."""
        query: dict[str, Any] = {}
        if merchant is not None:
            query["merchant"] = merchant
        if stage is not None:
            query["stage"] = stage.value
        found = await page_by_moment(
            self._database,
            STATEMENTS.name,
            query,
            moment="made_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [statement_from_document(document) for document in found]

    async def sum_recorded(self, merchant: MerchantId, since: datetime, until: datetime) -> tuple[Sums, Sums]:
        """Captures and refunds of the period by the vouchers' own records, which share nothing with the book.

        What was given to a cause concerns no merchant.
        """
        span = {"$gte": since, "$lt": until}
        own = {"merchant": merchant, "promise.kind": {"$ne": OfferKind.DONATION.value}}
        # The merchant stands in either branch, for each is looked up in an index of its own.
        either = [
            {**own, "captures": {"$elemMatch": {"at": span}}},
            # The type is that of the partial index, which no query without it uses.
            {**own, "refunds": {"$elemMatch": {"at": span}}, "refunds.at": {"$type": "date"}},
        ]
        group: dict[str, Any] = {"_id": "$of", "count": {"$sum": Int64(1)}}
        group |= {name: {"$sum": f"$one.{name}"} for name in ("points", "fen")}
        both: dict[str, Any] = {
            kind: [
                {"$unwind": f"${kind}"},
                {"$match": {f"{kind}.at": span}},
                {"$project": {"of": {"$literal": kind}, "one": f"${kind}"}},
                {"$group": group},
            ]
            for kind in ("captures", "refunds")
        }
        [found] = await self._database.aggregate(VOUCHERS.name, [{"$match": {"$or": either}}, {"$facet": both}])
        captures, refunds = (read_sums(found[kind][0] if found[kind] else {}) for kind in ("captures", "refunds"))
        return captures, refunds

    async def find_handovers(self, vouchers: Iterable[str]) -> dict[TransactionId, Handover]:
        """What was handed over or taken back in each transaction of these vouchers, and where."""
        wanted = sorted(set(vouchers))
        found = await self._database.find(VOUCHERS.name, {"_id": {"$in": wanted}}, limit=len(wanted) or 1)
        handovers: dict[TransactionId, Handover] = {}
        for voucher in map(voucher_from_document, found):
            shops: dict[TransactionId, ShopId | None] = {}
            for capture in voucher.captures:
                shops[capture.transaction] = capture.shop
            for refund in voucher.refunds:
                shops[refund.transaction] = shops.get(refund.of)
            for transaction, shop in shops.items():
                handovers[transaction] = Handover(voucher.number, voucher.promise.title, shop)
        return handovers
