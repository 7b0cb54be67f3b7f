"""Back-tests and their parts in MongoDB, and the stream of one part's actions.

A part is taken by whoever runs it and taken again by others when it is not heard of; its sums are a function of the job
alone, so who writes them makes no difference.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import DeleteOne

from backend.actions.backtesting.errors import UnknownBacktestError
from backend.actions.backtesting.model import GOING, Backtest, Days, State, Trial
from backend.actions.backtesting.parts import Part
from backend.actions.backtesting.tallying import read_result, read_tally, write_result, write_tally
from backend.actions.documents import ACTIONS
from backend.kernel.ids import SHARD_COUNT
from backend.mongo.batches import decode, stream_raw
from backend.mongo.collections import (
    AMOUNT,
    COUNTER,
    FLAG,
    LONG,
    MOMENT,
    TEXT,
    Collection,
    Index,
    list_of,
    nullable,
    one_of,
    record,
)
from backend.rules.drafts import Subject
from backend.rules.store import WORDING, from_stored, to_stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from backend.actions.backtesting.model import Result
    from backend.actions.backtesting.parts import Shared
    from backend.actions.backtesting.tallying import Tally
    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Tx

    Place = tuple[datetime, str]

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_TRIAL = record(
    {
        "draft": nullable(TEXT),
        "written": nullable(AMOUNT),
        "subject": nullable(one_of(*Subject)),
        "wording": nullable(WORDING),
        "profile": nullable(TEXT),
        "rule": nullable(TEXT),
        "version": nullable(AMOUNT),
    }
)
BACKTESTS = Collection(
    "backtests",
    record(
        {
            "_id": TEXT,
            "actor": TEXT,
            "trial": _TRIAL,
            "begin": TEXT,
            "end": TEXT,
            "revision": COUNTER,
            "at": MOMENT,
            "state": one_of(*State),
            "done": COUNTER,
            "ended_at": nullable(MOMENT),
            "attached": FLAG,
            "failure": nullable(TEXT),
            "result": nullable(TEXT),
        }
    ),
    (
        Index("at", [("at", -1), ("_id", -1)]),
        Index("going", [("at", 1)], partial={"state": {"$in": [state.value for state in GOING]}}),
    ),
)
_SHARED = list_of(record({"group": TEXT, "period": TEXT, "measure": TEXT, "amount": LONG}))
PARTS = Collection(
    "backtest_parts",
    record(
        {
            "_id": TEXT,
            "job": TEXT,
            "part": COUNTER,
            "is_open": FLAG,
            "holder": nullable(TEXT),
            "taken_at": MOMENT,
            "start": _SHARED,
            "drawn": _SHARED,
            "limits": _SHARED,
            "tally": nullable(TEXT),
        }
    ),
    (
        Index("job_part", [("job", 1), ("part", 1)], unique=True),
        Index("open", [("taken_at", 1), ("_id", 1)], partial={"is_open": True}),
    ),
)
COLLECTIONS = (BACKTESTS, PARTS)


class BacktestStore:
    """Back-tests as committed, and the writes that need no transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, backtest: str) -> Backtest | None:
        """The back-test of that id."""
        document = await self._database.find_one(BACKTESTS.name, {"_id": backtest})
        return _from_document(document) if document else None

    async def list_backtests(
        self, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Backtest]:
        """Back-tests, newest first; from the newest end, or the last of those before ``newer``."""
        bounds = [
            {"$or": [{"at": {sign: place[0]}}, {"at": place[0], "_id": {sign: place[1]}}]}
            for sign, place in (("$lt", older), ("$gt", newer))
            if place is not None
        ]
        direction = -1 if newest else 1
        query = {"$and": bounds} if bounds else {}
        found = await self._database.find(
            BACKTESTS.name, query, limit=limit, sort=[("at", direction), ("_id", direction)]
        )
        return [_from_document(document) for document in (found if newest else found[::-1])]

    async def list_going(self) -> list[str]:
        """Ids of those that are not over, oldest first."""
        query = {"state": {"$in": [state.value for state in GOING]}}
        found = await self._database.find(BACKTESTS.name, query, limit=100, sort=[("at", 1)], fields=["_id"])
        return [document["_id"] for document in found]

    async def report(self, backtest: str, done: int) -> None:
        """Note that so many parts are replayed."""
        await self._move(backtest, State.RUNNING, done=Int64(done))

    async def _move(self, backtest: str, state: State, **changes: Any) -> None:
        """Bring one that is not over to that state."""
        query = {"_id": backtest, "state": {"$in": [going.value for going in GOING]}}
        await self._database.update_one(BACKTESTS.name, query, {"$set": {"state": state.value, **changes}})

    async def end(self, job: Backtest, state: State, at: datetime, **changes: Any) -> None:
        """Bring one that is not over to its end and forget its parts."""
        await self._move(job.id, state, ended_at=at, **changes)
        for part in range(SHARD_COUNT):
            await self._database.delete_one(PARTS.name, {"_id": _part_id(job.id, part)})

    async def finish(self, job: Backtest, result: Result, at: datetime, *, attached: bool) -> None:
        """End a back-test with its result."""
        done = Int64(SHARD_COUNT)
        await self.end(job, State.DONE, at, result=write_result(result), attached=attached, done=done)

    async def take_part(self, parts: Sequence[int], holder: str, now: datetime, *, stale: datetime) -> Part | None:
        """Take the part that nobody holds, or nobody was heard of since ``stale``, for the longest time."""
        found = await self._database.find_one_and_update(
            PARTS.name,
            {"is_open": True, "taken_at": {"$lt": stale}, "part": {"$in": [Int64(part) for part in parts]}},
            {"$set": {"holder": holder, "taken_at": now}},
            sort=[("taken_at", 1), ("_id", 1)],
        )
        return _part(found) if found else None

    async def keep_part(self, part: Part, now: datetime) -> bool:
        """Say that the part is still being replayed; whether it still is this holder's."""
        query = {"_id": _part_id(part.job, part.number), "holder": part.holder, "is_open": True}
        return await self._database.update_one(PARTS.name, query, {"$set": {"taken_at": now}})

    async def free_part(self, part: Part) -> None:
        """Give the part back."""
        query = {"_id": _part_id(part.job, part.number), "holder": part.holder, "is_open": True}
        await self._database.update_one(PARTS.name, query, {"$set": {"taken_at": NEVER}})

    async def drop_part(self, part: Part) -> None:
        """Forget a part of a job that is over."""
        await self._database.delete_one(PARTS.name, {"_id": _part_id(part.job, part.number)})

    async def finish_part(
        self, part: Part, tally: Tally, drawn: Mapping[Shared, int], limits: Mapping[Shared, int]
    ) -> bool:
        """Keep what the part came to; whether it still was this holder's."""
        query = {"_id": _part_id(part.job, part.number), "holder": part.holder, "is_open": True}
        change = {
            "is_open": False,
            "tally": write_tally(tally),
            "drawn": _write_shared(drawn),
            "limits": _write_shared(limits),
        }
        return await self._database.update_one(PARTS.name, query, {"$set": change})

    async def reopen_part(self, part: Part, start: Mapping[Shared, int]) -> None:
        """Have the part replayed again behind what earlier parts drew."""
        query = {"_id": _part_id(part.job, part.number), "is_open": False, "start": _write_shared(part.start)}
        change = {"is_open": True, "holder": None, "taken_at": NEVER, "tally": None, "start": _write_shared(start)}
        await self._database.update_one(PARTS.name, query, {"$set": change})

    async def list_parts(self, backtest: str) -> list[Part]:
        """The job's parts in their order, without their tallies."""
        fields = ["job", "part", "holder", "is_open", "start", "drawn", "limits"]
        found = await self._database.find(
            PARTS.name, {"job": backtest}, limit=SHARD_COUNT, sort=[("part", 1)], fields=fields
        )
        return [_part(document) for document in found]

    async def find_tally(self, part: Part) -> Tally | None:
        """What a part came to."""
        document = await self._database.find_one(PARTS.name, {"_id": _part_id(part.job, part.number)}, ["tally"])
        return read_tally(document["tally"]) if document and document["tally"] else None

    async def stream_citizens(
        self, part: int, begin: datetime, end: datetime
    ) -> AsyncIterator[tuple[str, list[Document]]]:
        """The part's citizens by id, each with all acts that happened in [begin, end).

        The index gives them in this order: nothing is sorted, and nothing of another part is read.
        """
        query = {"shard": Int64(part), "occurred_at": {"$gte": begin, "$lt": end}}
        order = [("shard", 1), ("citizen", 1), ("occurred_at", 1)]
        citizen, acts = "", list[Any]()
        async with self._database.snapshot() as snapshot:
            async for raw, spans in stream_raw(snapshot, ACTIONS.name, query, sort=order):
                for start, size in spans:
                    document = decode(raw[start : start + size])
                    if document["citizen"] != citizen and acts:
                        yield citizen, acts
                        acts = []
                    citizen = document["citizen"]
                    acts.append(document)
        if acts:
            yield citizen, acts


class BacktestWrites:
    """Beginning a back-test inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def get(self, backtest: str) -> Backtest:
        """The back-test of that id.

        Raises:
            UnknownBacktestError: there is none.
        """
        document = await self._tx.find_one(BACKTESTS.name, {"_id": backtest})
        if document is None:
            raise UnknownBacktestError(backtest)
        return _from_document(document)

    async def insert(self, job: Backtest) -> None:
        """Begin a back-test with its parts."""
        await self._tx.insert_many(BACKTESTS.name, [_to_document(job)])
        await self._tx.insert_many(PARTS.name, [_new_part(job.id, part) for part in range(SHARD_COUNT)])

    async def cancel(self, job: Backtest, at: datetime) -> None:
        """End a back-test that is not over, and forget those of its parts that are there."""
        query = {"_id": job.id, "state": {"$in": [going.value for going in GOING]}}
        change = {"state": State.CANCELLED.value, "ended_at": at}
        await self._tx.update_one(BACKTESTS.name, query, {"$set": change})
        found = await self._tx.find(PARTS.name, {"job": job.id}, ["_id"])
        await self._tx.bulk_write(PARTS.name, [DeleteOne({"_id": part["_id"]}) for part in found])


def _part_id(job: str, part: int) -> str:
    return f"{job}/{part:02}"


def _new_part(job: str, part: int) -> Document:
    return {
        "_id": _part_id(job, part),
        "job": job,
        "part": Int64(part),
        "is_open": True,
        "holder": None,
        "taken_at": NEVER,
        "start": [],
        "drawn": [],
        "limits": [],
        "tally": None,
    }


def _part(document: Mapping[str, Any]) -> Part:
    return Part(
        job=document["job"],
        number=int(document["part"]),
        holder=document["holder"],
        is_open=document["is_open"],
        start=_read_shared(document["start"]),
        drawn=_read_shared(document["drawn"]),
        limits=_read_shared(document["limits"]),
    )


def _write_shared(shared: Mapping[Shared, int]) -> list[Document]:
    return [
        {"group": group, "period": period, "measure": measure, "amount": Int64(shared[group, period, measure])}
        for group, period, measure in sorted(shared)
    ]


def _read_shared(documents: Sequence[Mapping[str, Any]]) -> dict[Shared, int]:
    return {(item["group"], item["period"], item["measure"]): int(item["amount"]) for item in documents}


def _to_document(job: Backtest) -> Document:
    trial = job.trial
    return {
        "_id": job.id,
        "actor": job.actor,
        "trial": {
            "draft": trial.draft,
            "written": to_stored(trial.written),
            "subject": trial.subject.value if trial.subject else None,
            "wording": to_stored(trial.wording),
            "profile": trial.profile,
            "rule": trial.rule,
            "version": to_stored(trial.version),
        },
        "begin": job.days.begin.isoformat(),
        "end": job.days.end.isoformat(),
        "revision": Int64(job.revision),
        "at": job.at,
        "state": job.state.value,
        "done": Int64(job.done),
        "ended_at": job.ended_at,
        "attached": job.attached,
        "failure": job.failure,
        "result": write_result(job.result) if job.result else None,
    }


def _from_document(document: Mapping[str, Any]) -> Backtest:
    trial = from_stored(document["trial"])
    return Backtest(
        id=document["_id"],
        actor=document["actor"],
        trial=Trial(**{**trial, "subject": Subject(trial["subject"]) if trial["subject"] else None}),
        days=Days(date.fromisoformat(document["begin"]), date.fromisoformat(document["end"])),
        revision=int(document["revision"]),
        at=document["at"],
        state=State(document["state"]),
        done=int(document["done"]),
        ended_at=document["ended_at"],
        attached=document["attached"],
        failure=document["failure"],
        result=read_result(document["result"]) if document["result"] else None,
    )
