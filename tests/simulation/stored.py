"""DESIGN.md's invariants 1 to 6, checked on the stored documents alone. Must not use the ledger's rules or codec."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bson import Int64

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backend.runtime import Services

Document = dict[str, Any]
COLLECTIONS = ("ledger_pages", "ledger_transactions", "ledger_unsealed", "ledger_blocks", "ledger_leaves")
OWN = ("_id", "owner", "sequence", "copy_of", "lines")


def guarded_owner(account: str) -> str | None:
    """Whose page the account stands on."""
    kind, _, rest = account.partition(":")
    return f"{kind}:{rest.partition(':')[0]}" if kind in {"citizen", "enterprise", "pool"} else None


@dataclass(frozen=True)
class Stored:
    """The book's documents by collection and id."""

    collections: Mapping[str, Mapping[Any, Document]]

    @classmethod
    async def read(cls, services: Services) -> Stored:
        """All that the book's collections hold, at one instant."""
        first, *others = COLLECTIONS
        union: list[Document] = [{"$project": {"_id": 0, "of": first, "document": "$$ROOT"}}]
        for name in others:
            named = {"$project": {"_id": 0, "of": name, "document": "$$ROOT"}}
            union.append({"$unionWith": {"coll": name, "pipeline": [named]}})
        found: dict[str, dict[Any, Document]] = {name: {} for name in COLLECTIONS}
        for item in await services.database.aggregate(first, union):
            found[item["of"]][item["document"]["_id"]] = item["document"]
        return cls(found)

    @property
    def pages(self) -> Mapping[str, Document]:
        """By owner."""
        return self.collections["ledger_pages"]

    @property
    def transactions(self) -> Mapping[str, Document]:
        """Homes and copies by id."""
        return self.collections["ledger_transactions"]

    @property
    def homes(self) -> list[Document]:
        """Each transaction once."""
        return [document for document in self.transactions.values() if document["copy_of"] is None]


async def digests(services: Services) -> Mapping[str, str]:
    """A digest over every document of each of the database's collections, by the server."""
    answer: Document = await services.database.raw.command("dbHash")
    digests: dict[str, str] = answer["collections"]
    return digests


def check_succession(before: Stored, after: Stored) -> None:
    """Invariant 1: no transaction is ever changed or removed."""
    kept = {key: after.transactions.get(key) for key in before.transactions}
    assert kept == dict(before.transactions)


def check(stored: Stored) -> None:
    """Every other invariant that documents can show."""
    for home in stored.homes:
        _check_copies(stored, home)
    lines: defaultdict[str, list[Document]] = defaultdict(list)
    for document in stored.transactions.values():
        if guarded_owner(document["owner"]):
            lines[document["owner"]].append(document)
    assert set(lines) == set(stored.pages)
    for owner, page in stored.pages.items():
        _check_page(page, sorted(lines[owner], key=lambda document: int(document["sequence"])))
    _check_conservation(stored)
    _check_sealing(stored)


def _check_copies(stored: Stored, home: Document) -> None:
    """Each guarded owner touched has the transaction once, with the same content."""
    assert all(type(posting["amount"]) is Int64 and posting["amount"] > 0 for posting in home["postings"])
    ends = ("from",) if home["kind"] == "HOLD" else ("from", "to")
    touched = {guarded_owner(posting[end]) for posting in home["postings"] for end in ends} - {None}
    owners = touched | ({home["hold"]["owner"]} if "hold" in home else set())
    copies = [stored.transactions[f"{home['_id']}@{owner}"] for owner in owners - {home["owner"]}]
    assert not owners or home["owner"] in owners
    for copy in copies:
        assert copy["copy_of"] == home["_id"]
        assert {**copy, **_own(home)} == home
    assert sum(one["copy_of"] == home["_id"] for one in stored.transactions.values()) == len(copies)


def _own(document: Document) -> Document:
    return {name: document[name] for name in OWN}


@dataclass
class _Position:
    """What an owner's lines add up to."""

    balance: Counter[str] = field(default_factory=Counter)
    debt: Counter[str] = field(default_factory=Counter)
    lots: Counter[datetime] = field(default_factory=Counter)


def _check_page(page: Document, documents: list[Document]) -> None:
    """Invariant 2, and the order of the owner's sequence."""
    owner = page["_id"]
    assert [document["sequence"] for document in documents] == list(range(1, page["version"] + 1))
    times = [document["at"] for document in documents]
    assert times == sorted(times)
    assert page["at"] == times[-1]
    position = _Position()
    for document in documents:
        _add(position, owner, document)
    balances = {item["asset"]: item for item in page["balances"]}
    assert {asset: int(item["posted"]) for asset, item in balances.items()} == dict(position.balance)
    assert {asset: int(item["debt"]) for asset, item in balances.items()} == {
        asset: position.debt[asset] for asset in balances
    }
    held = Counter[str]()
    for hold in page["holds"]:
        held[hold["asset"]] += hold["amount"]
        assert hold["amount"] > 0
        assert sum(lot["amount"] for lot in hold["lots"]) == (hold["amount"] if hold["asset"] == "points" else 0)
    assert {asset: int(item["held"]) for asset, item in balances.items()} == {asset: held[asset] for asset in balances}
    for asset, item in balances.items():
        assert item["posted"] - item["held"] >= 0
        assert min(item["posted"], item["held"], item["debt"]) >= 0, asset
    _check_lots(page, position, held)


def _add(position: _Position, owner: str, document: Document) -> None:
    """Postings and lines of one document must tell the same."""
    change, owed = Counter[str](), Counter[str]()
    for posting in document["postings"] if document["kind"] != "HOLD" else ():
        for end, sign in (("from", -1), ("to", 1)):
            if guarded_owner(posting[end]) == owner:
                is_debt = ":debt." in posting[end]
                (owed if is_debt else change)[posting["asset"]] += (-sign if is_debt else sign) * posting["amount"]
    lines = {line["asset"]: line for line in document["lines"]}
    assert len(lines) == len(document["lines"])
    assert {*change, *owed} <= set(lines)
    for asset, line in lines.items():
        position.balance[asset] += change[asset]
        position.debt[asset] += owed[asset]
        assert line["change"] == change[asset]
        assert line["balance"] == position.balance[asset]
        assert line["debt"] == position.debt[asset]
        assert sum(lot["amount"] for lot in line["lots"]) == (change[asset] if asset == "points" else 0)
        for lot in line["lots"]:
            position.lots[lot["expires_at"]] += lot["amount"]


def _check_lots(page: Document, position: _Position, held: Counter[str]) -> None:
    """Lots, held ones included, are what the lines made of them, and add up to the balance."""
    free = [(lot["expires_at"], int(lot["amount"])) for lot in page["lots"]]
    assert free == sorted(free)
    assert len({end for end, _ in free}) == len(free)
    assert all(amount > 0 for _, amount in free)
    ends = [(lot["expires_at"], int(lot["amount"])) for hold in page["holds"] for lot in hold["lots"]]
    together: Counter[datetime] = Counter()
    for end, amount in [*free, *ends]:
        together[end] += amount
    assert together == +position.lots
    assert min(position.lots.values(), default=0) >= 0
    assert together.total() == position.balance["points"]
    # Whatever moment one asks at, what is available is the balance without what is held and what is over.
    for at in {page["at"], *(end for end, _ in free)}:
        available = sum(amount for end, amount in free if end > at)
        overdue = sum(amount for end, amount in free if end <= at)
        assert available == position.balance["points"] - held["points"] - overdue >= 0
    due = [end for end, _ in free] + [hold["expires_at"] for hold in page["holds"]]
    assert page["due_at"] == min(due, default=None)


def _check_conservation(stored: Stored) -> None:
    """Per asset, what pages and all other accounts hold comes to nothing: every posting has two ends."""
    totals: Counter[str] = Counter()
    for page in stored.pages.values():
        for item in page["balances"]:
            totals[item["asset"]] += item["posted"] - item["debt"]
    for home in stored.homes:
        for posting in home["postings"] if home["kind"] != "HOLD" else ():
            for end, sign in (("from", -1), ("to", 1)):
                if guarded_owner(posting[end]) is None:
                    totals[posting["asset"]] += sign * posting["amount"]
    assert {asset: total for asset, total in totals.items() if total} == {}


def _check_sealing(stored: Stored) -> None:
    """Each transaction waits for a block or stands in one, exactly once."""
    announced = stored.collections["ledger_unsealed"].values()
    waiting = [one.rpartition("_")[2] for document in announced for one in document["transactions"]]
    leaves = stored.collections["ledger_leaves"].values()
    sealed = [one.hex() for block in leaves for one in block["transactions"]]
    assert sorted(waiting + sealed) == sorted(home["_id"].rpartition("_")[2] for home in stored.homes)
    blocks = [block for _, block in sorted(stored.collections["ledger_blocks"].items())]
    assert [block["_id"] for block in blocks] == list(range(1, len(blocks) + 1))
    for block, following in itertools.pairwise(blocks):
        assert following["previous"] == block["hash"]
        assert following["sealed_at"] >= block["sealed_at"]
