"""Who has which serials: one document a range, changed in the MongoDB transaction that moves the credits in the book.

A range's ``_id`` is its credit and first serial: two owners of one serial cannot be written down. The owner is that
of the book, or ``retired:<certificate>``.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import DeleteOne, UpdateOne

from backend.kernel.units import INT64_MAX
from backend.ledger.model import Asset, OwnerId
from backend.market.serials.model import Ranges, SerialRange, joined, spelled, taken, total_grams
from backend.mongo.collections import AMOUNT, TEXT, Collection, Index, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.transactions import Tx

SERIALS = Collection(
    "market_serials",
    record({"_id": TEXT, "credit": TEXT, "first": AMOUNT, "last": AMOUNT, "owner": TEXT}),
    (
        Index("credit_first", [("credit", 1), ("first", 1)]),
        Index("owner_credit", [("owner", 1), ("credit", 1), ("first", 1)]),
    ),
)
COLLECTIONS = (SERIALS,)
PAGE = 200
AHEAD = 2_000
RETIRED = "retired:"
Holder = tuple[OwnerId, Asset]


class TooFewSerialsError(RuntimeError):
    """The book let somebody pay credits whose serials are not theirs: the two have come apart."""


class TooManyRangesError(Exception):
    """More ranges would be moved than the sheet has room for; of the last move ``grams`` would have had room."""

    def __init__(self, grams: int) -> None:
        super().__init__(grams)
        self.grams = grams


def retired_owner(certificate: str) -> OwnerId:
    """Who has serials for ever that were retired by that certificate."""
    return OwnerId(f"{RETIRED}{certificate}")


class SerialSheet:
    """Moves serials inside one MongoDB transaction, ``most`` ranges at most; ``write`` ends it."""

    def __init__(self, tx: Tx, most: int = INT64_MAX) -> None:
        self._tx = tx
        self._room = most
        self._stored: dict[tuple[Asset, int], tuple[SerialRange, OwnerId]] = {}
        self._now: dict[Holder, list[SerialRange]] = {}
        # How far the holder's ranges were read: serials beyond may be stored.
        self._read: dict[Holder, int | None] = {}

    def issue(self, credit: Asset, run: SerialRange, owner: OwnerId) -> None:
        """Give new serials to an owner: those after the credit's last, for the id knows only where ranges begin."""
        insort(self._now.setdefault((owner, credit), []), run)

    async def move(self, credit: Asset, grams: int, payer: OwnerId, payee: OwnerId) -> Ranges:
        """So many of the payer's serials, lowest first, become the payee's; which.

        Raises:
            TooManyRangesError: they lie in more ranges than there is room for.
            TooFewSerialsError: the payer has fewer.
        """
        had = await self._load(payer, credit, grams)
        first, rest = taken(had, grams)
        if len(first) > self._room:
            raise TooManyRangesError(total_grams(first[: self._room]))
        if total_grams(first) < grams:
            message = f"{payer} has {total_grams(had)} serials of {credit}, not {grams}"
            raise TooFewSerialsError(message)
        self._now[payer, credit] = list(rest)
        for run in first:
            insort(self._now.setdefault((payee, credit), []), run)
        self._room -= len(first)
        return joined(first)

    async def _load(self, owner: OwnerId, credit: Asset, grams: int) -> list[SerialRange]:
        """The owner's ranges, read as far as ``grams`` need it, or to where there are more than there is room for.

        What came in with this sheet counts only as far as was read: what is stored may lie before it.
        """
        holder = (owner, credit)
        here = self._now.setdefault(holder, [])
        while (after := self._read.get(holder, 0)) is not None:
            known = [run for run in here if run.first <= after]
            if len(known) > self._room or total_grams(known) >= grams:
                break
            query = {"owner": owner, "credit": credit, "first": {"$gt": Int64(after)}}
            found = await self._tx.find(SERIALS.name, query, sort=[("first", 1)], limit=PAGE)
            for document in found:
                self._note(document)
            self._read[holder] = int(found[-1]["first"]) if len(found) == PAGE else None
        return here

    async def read_ahead(self, credit: Asset, owners: Sequence[OwnerId]) -> None:
        """Read what these owners will move, with one query as far as that goes; the rest is read where it is needed."""
        if not owners:
            return
        query = {"owner": {"$in": list(owners)}, "credit": credit}
        order = [("owner", 1), ("credit", 1), ("first", 1)]
        found = await self._tx.find(SERIALS.name, query, sort=order, limit=AHEAD)
        for document in found:
            self._note(document)
        # Where the answer was cut, its last owner may have more, and whoever comes after was not read.
        last = found[-1] if len(found) == AHEAD else None
        for owner in owners:
            if last is None or owner < last["owner"]:
                self._read[owner, credit] = None
            elif owner == last["owner"]:
                self._read[owner, credit] = int(last["first"])

    def _note(self, document: Mapping[str, Any]) -> None:
        run, owner, credit = _range(document), OwnerId(document["owner"]), Asset(document["credit"])
        self._stored[credit, run.first] = (run, owner)
        insort(self._now.setdefault((owner, credit), []), run)

    async def write(self) -> None:
        """Write what changed: touching ranges of one owner become one."""
        wanted = {
            (credit, run.first): (run, owner) for (owner, credit), runs in self._now.items() for run in joined(runs)
        }
        changes: list[UpdateOne | DeleteOne] = [
            DeleteOne({"_id": _id(*place), "owner": owner, "last": Int64(run.last)})
            for place, (run, owner) in self._stored.items()
            if place not in wanted
        ]
        changes += [
            UpdateOne(
                {"_id": _id(*place), "owner": owner, "last": Int64(run.last)},
                {"$set": {"owner": wanted[place][1], "last": Int64(wanted[place][0].last)}},
            )
            for place, (run, owner) in self._stored.items()
            if place in wanted and wanted[place] != (run, owner)
        ]
        await self._tx.bulk_write(SERIALS.name, changes)
        new = [_document(place[0], *held) for place, held in wanted.items() if place not in self._stored]
        await self._tx.insert_soon(SERIALS.name, new)


def _id(credit: Asset, first: int) -> str:
    return f"{credit}#{first}"


def _document(credit: Asset, run: SerialRange, owner: OwnerId) -> Document:
    return {
        "_id": _id(credit, run.first),
        "credit": credit,
        "first": Int64(run.first),
        "last": Int64(run.last),
        "owner": owner,
    }


def _range(document: Mapping[str, Any]) -> SerialRange:
    return SerialRange(int(document["first"]), int(document["last"]))


async def list_ranges(database: Database, owner: OwnerId, credit: Asset, *, limit: int) -> Ranges:
    """The first ``limit`` ranges of an owner, by serial."""
    query = {"owner": owner, "credit": credit}
    found = await database.find(SERIALS.name, query, limit=limit, sort=[("first", 1)])
    return tuple(map(_range, found))


async def find_owners(database: Database, credit: Asset, serials: Sequence[int]) -> list[OwnerId | None]:
    """Who has each of these serials; None for one that was never issued."""
    owners: list[OwnerId | None] = []
    for serial in serials:
        query = {"credit": credit, "first": {"$lte": Int64(serial)}}
        found = await database.find(SERIALS.name, query, limit=1, sort=[("first", -1)])
        is_in = bool(found) and int(found[0]["last"]) >= serial
        owners.append(OwnerId(found[0]["owner"]) if is_in else None)
    return owners


async def stream_ranges(snapshot: Snapshot) -> AsyncIterator[tuple[Asset, SerialRange, OwnerId, bool]]:
    """Every range, by credit and first serial, and whether its id is that of its place."""
    async for document in snapshot.stream(SERIALS.name, {}, sort=[("credit", 1), ("first", 1)]):
        credit, run = Asset(document["credit"]), _range(document)
        yield credit, run, OwnerId(document["owner"]), document["_id"] == _id(credit, run.first)


def cause_of(credit: Asset, ranges: Iterable[SerialRange]) -> dict[str, str]:
    """What the cause of a transaction says that moves these serials: by it they are sealed with it."""
    return {"credit": credit, "serials": spelled(ranges)}
