"""The book's collections and the codec of their documents; no queries.

``ledger_pages``: one document per guarded owner with the whole position and the number of their transactions.
``ledger_transactions``: each transaction once on the page of every guarded owner it touches (first its home, then
copies with ``copy_of``), so that a statement is read from one shard; ``_id`` is derived from the key, so a key takes
effect once.
``ledger_unsealed``: which transactions committed together and stand in no block yet; consumed by the sealer.
The first two are sharded by owner. Transactions are only ever inserted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.ids import TransactionId, shard_of
from backend.ledger.corrections import Correction, Standing
from backend.ledger.model import (
    POINTS,
    AccountId,
    Asset,
    Draw,
    Hold,
    HoldRef,
    Line,
    Lot,
    OwnerId,
    Page,
    Posting,
    StatementLine,
    Transaction,
    TransactionKind,
    account_of,
    split_account,
)
from backend.mongo.collections import (
    AMOUNT,
    COUNTER,
    FLAG,
    LONG,
    MOMENT,
    TEXT,
    TEXT_MAP,
    Collection,
    Index,
    list_of,
    nullable,
    one_of,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backend.ledger.model import Applied, Lots, Terms
    from backend.mongo.client import Document

NOTHING = Int64(0)
LOTS = list_of(record({"expires_at": MOMENT, "amount": AMOUNT}))
PAGES = Collection(
    "ledger_pages",
    record(
        {
            "_id": TEXT,
            "shard": COUNTER,
            "version": AMOUNT,
            "at": MOMENT,
            "balances": list_of(record({"asset": TEXT, "posted": COUNTER, "held": COUNTER, "debt": COUNTER})),
            "lots": LOTS,
            "holds": list_of(
                record({"id": TEXT, "asset": TEXT, "to": TEXT, "amount": AMOUNT, "expires_at": MOMENT, "lots": LOTS})
            ),
            "due_at": nullable(MOMENT),
        }
    ),
    (Index("shard_due", [("shard", 1), ("due_at", 1)], partial={"due_at": {"$type": "date"}}),),
)
TRANSACTIONS = Collection(
    "ledger_transactions",
    record(
        {
            "_id": TEXT,
            "owner": TEXT,
            "sequence": nullable(AMOUNT),
            "copy_of": nullable(TEXT),
            "key": TEXT,
            "payload": TEXT,
            "kind": one_of(*TransactionKind),
            "at": MOMENT,
            "opens": MOMENT,
            "postings": list_of(
                record({"from": TEXT, "to": TEXT, "asset": TEXT, "amount": AMOUNT}, optional={"lots": LOTS})
            ),
            "lines": list_of(
                record(
                    {
                        "asset": TEXT,
                        "change": LONG,
                        "balance": COUNTER,
                        "held": COUNTER,
                        "debt": COUNTER,
                        "lots": list_of(record({"expires_at": MOMENT, "amount": LONG})),
                    }
                )
            ),
            "cause": TEXT_MAP,
        },
        optional={
            "hold": record({"owner": TEXT, "id": TEXT}),
            "draws": list_of(record({"owner": TEXT, "id": TEXT, "final": FLAG})),
            "final": FLAG,
            "expires_at": MOMENT,
            "corrects": TEXT,
            "lots": list_of(record({"account": TEXT, "expires_at": MOMENT, "amount": AMOUNT})),
        },
    ),
    (
        Index("owner_sequence", [("owner", 1), ("sequence", 1)], unique=True, partial={"sequence": {"$type": "long"}}),
        Index("owner_asset_at", [("owner", 1), ("lines.asset", 1), ("at", -1), ("sequence", -1)]),
        Index("owner_corrects", [("owner", 1), ("corrects", 1)], partial={"corrects": {"$type": "string"}}),
        # With the id behind it a period is read in its order without sorting.
        Index(
            "merchant_at",
            [("cause.merchant", 1), ("at", 1), ("_id", 1)],
            partial={"cause.merchant": {"$type": "string"}},
        ),
        Index("voucher", [("cause.voucher", 1)], partial={"cause.voucher": {"$type": "string"}}),
        Index("credit_at", [("cause.credit", 1), ("at", 1)], partial={"cause.credit": {"$type": "string"}}),
    ),
)
UNSEALED = Collection(
    "ledger_unsealed",
    record({"_id": TEXT, "transactions": list_of(TEXT), "at": MOMENT}),
    (Index("at", [("at", 1)]),),
)
COLLECTIONS = (PAGES, TRANSACTIONS, UNSEALED)


def page_to_document(page: Page) -> Document:
    """The page as stored."""
    return {"_id": page.owner, "shard": Int64(shard_of(page.owner)), **position(page)}


def position(page: Page) -> Document:
    """All that a transaction may change."""
    return {
        "version": Int64(page.version),
        "at": page.at,
        "balances": [
            {
                "asset": asset,
                "posted": Int64(amount),
                "held": Int64(page.held(asset)) if page.holds else NOTHING,
                "debt": Int64(page.debts[asset]) if asset in page.debts else NOTHING,
            }
            for asset, amount in sorted(page.balances.items())
        ],
        "lots": _lots(page.lots),
        "holds": [_hold(hold) for hold in page.holds],
        "due_at": page.due_at,
    }


def _hold(hold: Hold) -> Document:
    return {
        "id": hold.id,
        "asset": hold.asset,
        "to": hold.to_account,
        "amount": Int64(hold.amount),
        "expires_at": hold.expires_at,
        "lots": _lots(hold.lots),
    }


def _lots(lots: Lots) -> list[Document]:
    return [{"expires_at": expires_at, "amount": Int64(amount)} for expires_at, amount in lots]


def lots_from(documents: Iterable[Mapping[str, Any]]) -> Lots:
    """The stored lots, or changes of lots."""
    return tuple(Lot(item["expires_at"], int(item["amount"])) for item in documents)


def page_from_document(document: Mapping[str, Any]) -> Page:
    """The stored page."""
    balances = document["balances"]
    return Page(
        owner=OwnerId(document["_id"]),
        version=int(document["version"]),
        at=document["at"],
        balances={Asset(item["asset"]): int(item["posted"]) for item in balances},
        debts={Asset(item["asset"]): int(item["debt"]) for item in balances if item["debt"]},
        lots=lots_from(document["lots"]),
        holds=tuple(
            Hold(
                id=TransactionId(item["id"]),
                asset=Asset(item["asset"]),
                to_account=AccountId(item["to"]),
                amount=int(item["amount"]),
                expires_at=item["expires_at"],
                lots=lots_from(item["lots"]),
            )
            for item in document["holds"]
        ),
    )


def transaction_documents(transaction: Transaction, applied: Applied, terms: Terms) -> list[Document]:
    """One document per guarded owner touched; a single one without sequence where none is."""
    shared: Document = {
        "key": transaction.key,
        "payload": transaction.payload,
        "kind": transaction.kind.value,
        "at": terms.at,
        "opens": terms.opens,
        "postings": [
            _posting(posting, lots) for posting, lots in zip(transaction.postings, applied.taken, strict=True)
        ],
        "cause": dict(transaction.cause),
        **_particulars(transaction),
    }
    if not applied.entries:
        owner = split_account(transaction.postings[0].from_account).owner
        return [{"_id": transaction.id, "owner": owner, "sequence": None, "copy_of": None, "lines": [], **shared}]
    return [
        {
            "_id": f"{transaction.id}@{entry.owner}" if number else transaction.id,
            "owner": entry.owner,
            "sequence": Int64(entry.sequence),
            "copy_of": transaction.id if number else None,
            "lines": [
                {
                    "asset": line.asset,
                    "change": Int64(line.change),
                    "balance": Int64(line.balance),
                    "held": Int64(line.held),
                    "debt": Int64(line.debt),
                    "lots": _lots(line.lots),
                }
                for line in entry.lines
            ],
            **shared,
        }
        for number, entry in enumerate(applied.entries)
    ]


def _posting(posting: Posting, lots: Lots) -> Document:
    document: Document = {
        "from": posting.from_account,
        "to": posting.to_account,
        "asset": posting.asset,
        "amount": Int64(posting.amount),
    }
    if lots:
        document["lots"] = _lots(lots)
    return document


def taken_lots(document: Mapping[str, Any]) -> list[Lots]:
    """The lots that each posting of a stored transaction took from its payer."""
    return [lots_from(posting.get("lots", ())) for posting in document["postings"]]


def _particulars(transaction: Transaction) -> Document:
    """What only some kinds have."""
    particulars: Document = {}
    if transaction.hold is not None:
        particulars["hold"] = {"owner": transaction.hold.owner, "id": transaction.hold.id}
    if transaction.draws:
        particulars["draws"] = [
            {"owner": draw.hold.owner, "id": draw.hold.id, "final": draw.final} for draw in transaction.draws
        ]
    if not transaction.final:
        particulars["final"] = False
    if transaction.expires_at is not None:
        particulars["expires_at"] = transaction.expires_at
    if transaction.corrects is not None:
        particulars["corrects"] = transaction.corrects
    if transaction.lots:
        particulars["lots"] = [
            {"account": account, "expires_at": expires_at, "amount": Int64(amount)}
            for account, lots in sorted(transaction.lots.items())
            for expires_at, amount in lots
        ]
    return particulars


def transaction_from_document(document: Mapping[str, Any]) -> Transaction:
    """The transaction that a document, home or copy, tells."""
    hold = document.get("hold")
    lots: dict[AccountId, Lots] = {}
    for item in document.get("lots", ()):
        account = AccountId(item["account"])
        lots[account] = (*lots.get(account, ()), Lot(item["expires_at"], int(item["amount"])))
    return Transaction(
        key=document["key"],
        kind=TransactionKind(document["kind"]),
        postings=tuple(
            Posting(
                from_account=AccountId(item["from"]),
                to_account=AccountId(item["to"]),
                asset=Asset(item["asset"]),
                amount=int(item["amount"]),
            )
            for item in document["postings"]
        ),
        cause=document["cause"],
        hold=HoldRef(OwnerId(hold["owner"]), TransactionId(hold["id"])) if hold else None,
        draws=tuple(
            Draw(HoldRef(OwnerId(draw["owner"]), TransactionId(draw["id"])), draw["final"])
            for draw in document.get("draws", ())
        ),
        final=document.get("final", True),
        expires_at=document.get("expires_at"),
        corrects=document.get("corrects"),
        lots=lots,
    )


def statement_line(document: Document, asset: Asset) -> StatementLine:
    """The row that a document of the owner gives for the asset."""
    line = next(line for line in document["lines"] if line["asset"] == asset)
    return StatementLine(
        sequence=int(document["sequence"]),
        transaction=TransactionId(document["copy_of"] or document["_id"]),
        kind=TransactionKind(document["kind"]),
        at=document["at"],
        line=Line(
            asset,
            int(line["change"]),
            int(line["balance"]),
            int(line["held"]),
            int(line["debt"]),
            lots_from(line["lots"]),
        ),
        cause=document["cause"],
        corrects=document.get("corrects"),
    )


def standing_of(documents: Sequence[Document], corrections: Sequence[Document]) -> Standing:
    """A transaction's home document with its copies, and one document of each correction, as corrections see them."""
    return Standing(
        transaction=transaction_from_document(documents[0]),
        lots={
            account_of(OwnerId(document["owner"]), POINTS): lots_from(line["lots"])
            for document in documents
            for line in document["lines"]
            if line["asset"] == POINTS
        },
        corrections=[Correction(transaction_from_document(document), taken_lots(document)) for document in corrections],
    )
