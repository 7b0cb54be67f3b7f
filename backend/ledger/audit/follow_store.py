"""How far following came, what it raised, and every query of it; a database that was never followed has neither.

``audit_state``: one document, the height reached with the balances of the programme's accounts up to there.
``audit_alerts``: each difference once, by place and problem.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.kernel.ids import derived_id
from backend.ledger.documents import PAGES, TRANSACTIONS, UNSEALED
from backend.ledger.sealing.store import BLOCKS, KEYS, LEAVES
from backend.mongo.batches import find_first, long
from backend.mongo.client import DuplicateError
from backend.mongo.collections import COUNTER, LONG, MOMENT, TEXT, Collection, Index, list_of, nullable, record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from backend.mongo.client import Database, Document, Snapshot

STATE = Collection(
    "audit_state",
    record(
        {
            "_id": TEXT,
            "height": COUNTER,
            "hash": TEXT,
            "transactions": COUNTER,
            "balances": list_of(record({"account": TEXT, "amount": LONG})),
            "findings": COUNTER,
            "waiting": COUNTER,
            "at": nullable(MOMENT),
        }
    ),
)
ALERTS = Collection(
    "audit_alerts",
    record({"_id": TEXT, "at": MOMENT, "place": TEXT, "problem": TEXT}),
    (Index("at", [("at", -1)]),),
)
COLLECTIONS = (STATE, ALERTS)
BOOK = "book"
AT_ONCE = 500
SPANS_AT_ONCE = 200


@dataclass
class Followed:
    """How far following came: the last block and its hash, all transactions and balances by account up to it.

    ``findings`` counts all differences so far, ``waiting`` what was to be sealed when it last ran to its end, ``at``.
    """

    height: int = 0
    hash: str = ""
    transactions: int = 0
    balances: Counter[str] = field(default_factory=Counter)
    findings: int = 0
    waiting: int = 0
    at: datetime | None = None


class FollowStore:
    """State and alerts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Followed:
        """How far it came; nowhere, where it never ran."""
        found = await self._database.find_one(STATE.name, {"_id": BOOK})
        if found is None:
            return Followed()
        return Followed(
            height=int(found["height"]),
            hash=found["hash"],
            transactions=int(found["transactions"]),
            balances=Counter({item["account"]: int(item["amount"]) for item in found["balances"]}),
            findings=int(found["findings"]),
            waiting=int(found["waiting"]),
            at=found["at"],
        )

    async def save(self, followed: Followed, *, before: int) -> bool:
        """Keep how far it came, unless somebody else came further from ``before`` meanwhile; whether it was kept."""
        document = {
            "height": long(followed.height),
            "hash": followed.hash,
            "transactions": long(followed.transactions),
            "balances": [{"account": name, "amount": long(n)} for name, n in sorted(followed.balances.items())],
            "findings": long(followed.findings),
            "waiting": long(followed.waiting),
            "at": followed.at,
        }
        try:
            return await self._database.update_one(
                STATE.name, {"_id": BOOK, "height": long(before)}, {"$set": document}, upsert=before == 0
            )
        except DuplicateError:
            # The state exists with another height: the unique id made the upsert the loser.
            return False

    async def raise_alert(self, place: str, problem: str, at: datetime) -> bool:
        """Keep the difference; whether it is a new one."""
        alert = {"_id": derived_id("alert", place, problem), "at": at, "place": place, "problem": problem}
        return not await self._database.insert_many(ALERTS.name, [alert])

    async def count_alerts(self) -> int:
        """How many differences were ever raised."""
        return await self._database.count(ALERTS.name, {})

    async def list_alerts(self, limit: int) -> list[Document]:
        """The latest differences."""
        return await self._database.find(ALERTS.name, {}, limit=limit, sort=[("at", -1), ("_id", 1)])

    async def count_waiting(self) -> int:
        """How many transactions wait to be sealed."""
        found = await self._database.aggregate(
            UNSEALED.name, [{"$group": {"_id": None, "count": {"$sum": {"$size": "$transactions"}}}}]
        )
        return int(found[0]["count"]) if found else 0


async def list_heights(snapshot: Snapshot, above: int) -> list[int]:
    """The blocks above that height."""
    query = {"_id": {"$gt": long(above)}}
    return [int(found["_id"]) async for found in snapshot.stream(BLOCKS.name, query, sort=[("_id", 1)], fields=["_id"])]


async def find_block(snapshot: Snapshot, height: int) -> Document | None:
    """The stored block of that height."""
    return await snapshot.find_one(BLOCKS.name, {"_id": long(height)})


async def find_leaves(snapshot: Snapshot, height: int) -> Document | None:
    """The stored leaves of that height."""
    return await snapshot.find_one(LEAVES.name, {"_id": long(height)})


async def list_keys(snapshot: Snapshot) -> list[tuple[object, str]]:
    """Every registered public key (hex) with its name."""
    return [(found["_id"], str(found.get("public"))) async for found in snapshot.stream(KEYS.name, {})]


async def find_transactions(snapshot: Snapshot, ids: Sequence[str]) -> dict[str, Document]:
    """Those of the documents, homes or copies, that are in the book."""
    found = {}
    for part in _parts(ids):
        async for document in snapshot.stream(TRANSACTIONS.name, {"_id": {"$in": part}}):
            found[document["_id"]] = document
    return found


async def find_lines(snapshot: Snapshot, spans: Sequence[tuple[str, int, int]]) -> dict[tuple[str, int], Document]:
    """Time and lines of the documents between two numbers of an owner, both included, by owner and number."""
    found = {}
    for start in range(0, len(spans), SPANS_AT_ONCE):
        # The type is that of the partial index, which no query without it uses.
        either = [
            {"owner": owner, "sequence": {"$type": "long", "$gte": long(first), "$lte": long(last)}}
            for owner, first, last in spans[start : start + SPANS_AT_ONCE]
        ]
        stream = snapshot.stream(TRANSACTIONS.name, {"$or": either}, fields=["owner", "sequence", "at", "lines"])
        async for document in stream:
            found[document["owner"], int(document["sequence"])] = document
    return found


async def find_line(snapshot: Snapshot, owner: str, asset: str, *, before: Document) -> Document | None:
    """The owner's last line of the asset before that document."""
    query = {
        "owner": owner,
        "lines.asset": asset,
        "at": {"$lte": before["at"]},
        "sequence": {"$lt": long(before["sequence"])},
    }
    document = await find_first(snapshot, TRANSACTIONS.name, query, sort=[("at", -1), ("sequence", -1)])
    return next((line for line in document["lines"] if line["asset"] == asset), None) if document else None


async def find_pages(snapshot: Snapshot, owners: Sequence[str]) -> dict[str, Document]:
    """Those of the owners' pages that exist."""
    found = {}
    for part in _parts(owners):
        async for document in snapshot.stream(PAGES.name, {"_id": {"$in": part}}):
            found[document["_id"]] = document
    return found


def _parts(items: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), AT_ONCE):
        yield list(items[start : start + AT_ONCE])
