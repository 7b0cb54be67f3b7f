"""Drafts of rules and the log of what was done to them, in MongoDB. The log is inserted into and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.errors import Text
from backend.mongo.collections import AMOUNT, COUNTER, FLAG, MOMENT, TEXT, Collection, Index, list_of, nullable, one_of
from backend.mongo.collections import record as record_of
from backend.rules.drafts import Backtest, Change, Draft, LogEntry, Problem, Stage, Step, Subject
from backend.rules.refusals import UnknownDraftError
from backend.rules.store import WORDING, from_stored, to_stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backend.mongo.client import Database, Document
    from backend.mongo.transactions import Tx

    Place = tuple[datetime, str]

DRAFTS = Collection(
    "rule_drafts",
    record_of(
        {
            "_id": TEXT,
            "subject": one_of(*Subject),
            "name": TEXT,
            "stage": one_of(*Stage),
            "revision": AMOUNT,
            "written": AMOUNT,
            "base": COUNTER,
            "author": TEXT,
            "hands": list_of(TEXT),
            "approver": nullable(TEXT),
            "retires": FLAG,
            "wording": WORDING,
            "problems": list_of(
                record_of({"path": TEXT, "zh": TEXT, "en": TEXT, "line": nullable(AMOUNT), "column": nullable(AMOUNT)})
            ),
            "backtest": nullable(record_of({"job": TEXT, "figures": WORDING})),
            "why_untested": nullable(TEXT),
            "at": MOMENT,
            "changed_at": MOMENT,
            "published": nullable(AMOUNT),
        }
    ),
    (Index("at", [("at", -1), ("_id", -1)]), Index("stage_at", [("stage", 1), ("at", -1), ("_id", -1)])),
)
LOG = Collection(
    "rule_log",
    record_of(
        {
            "_id": TEXT,
            "at": MOMENT,
            "actor": TEXT,
            "step": one_of(*Step),
            "subject": TEXT,
            "draft": nullable(TEXT),
            "reason": TEXT,
            "difference": list_of(record_of({"path": TEXT, "before": nullable(TEXT), "after": nullable(TEXT)})),
            "revision": nullable(AMOUNT),
        }
    ),
    (Index("at", [("at", -1), ("_id", -1)]), Index("subject_at", [("subject", 1), ("at", -1), ("_id", -1)])),
)
COLLECTIONS = (DRAFTS, LOG)


def draft_to_document(draft: Draft) -> Document:
    """The draft as stored."""
    return {
        "_id": draft.id,
        "subject": draft.subject.value,
        "name": draft.name,
        "stage": draft.stage.value,
        "revision": Int64(draft.revision),
        "written": Int64(draft.written),
        "base": Int64(draft.base),
        "author": draft.author,
        "hands": sorted(draft.hands),
        "approver": draft.approver,
        "retires": draft.retires,
        "wording": to_stored(draft.wording),
        "problems": [
            {
                "path": problem.path,
                "zh": problem.problem.zh,
                "en": problem.problem.en,
                "line": to_stored(problem.line),
                "column": to_stored(problem.column),
            }
            for problem in draft.problems
        ],
        "backtest": draft.backtest
        and {"job": draft.backtest.job, "figures": {n: Int64(value) for n, value in draft.backtest.figures.items()}},
        "why_untested": draft.why_untested,
        "at": draft.created_at,
        "changed_at": draft.changed_at,
        "published": to_stored(draft.published),
    }


def draft_from_document(document: Mapping[str, Any]) -> Draft:
    """The stored draft."""
    plain = from_stored(document)
    backtest = plain["backtest"]
    return Draft(
        id=plain["_id"],
        subject=Subject(plain["subject"]),
        name=plain["name"],
        stage=Stage(plain["stage"]),
        revision=plain["revision"],
        written=plain["written"],
        base=plain["base"],
        author=plain["author"],
        hands=frozenset(plain["hands"]),
        approver=plain["approver"],
        retires=plain["retires"],
        wording=plain["wording"],
        problems=tuple(
            Problem(found["path"], Text(found["zh"], found["en"]), found["line"], found["column"])
            for found in plain["problems"]
        ),
        backtest=Backtest(backtest["job"], backtest["figures"]) if backtest else None,
        why_untested=plain["why_untested"],
        created_at=plain["at"],
        changed_at=plain["changed_at"],
        published=plain["published"],
    )


def _entry_to_document(entry: LogEntry) -> Document:
    return {
        "_id": entry.id,
        "at": entry.at,
        "actor": entry.actor,
        "step": entry.step.value,
        "subject": entry.subject,
        "draft": entry.draft,
        "reason": entry.reason,
        "difference": [
            {"path": change.path, "before": change.before, "after": change.after} for change in entry.difference
        ],
        "revision": to_stored(entry.revision),
    }


def _entry_from_document(document: Mapping[str, Any]) -> LogEntry:
    plain = from_stored(document)
    return LogEntry(
        id=plain["_id"],
        at=plain["at"],
        actor=plain["actor"],
        step=Step(plain["step"]),
        subject=plain["subject"],
        draft=plain["draft"],
        reason=plain["reason"],
        difference=tuple(Change(**change) for change in plain["difference"]),
        revision=plain["revision"],
    )


class DraftReads:
    """Drafts and log as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_draft(self, draft: str) -> Draft | None:
        """The draft of that id."""
        document = await self._database.find_one(DRAFTS.name, {"_id": draft})
        return draft_from_document(document) if document else None

    async def list_drafts(
        self, stage: Stage | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Draft]:
        """Drafts in that stage or in any, newest first; from the newest end, or the last of those before ``newer``."""
        query = {} if stage is None else {"stage": stage.value}
        return [draft_from_document(found) for found in await self._page(DRAFTS, query, limit, older, newer, newest)]

    async def list_log(
        self, subject: str | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[LogEntry]:
        """Steps taken with that subject or with any, newest first."""
        query = {} if subject is None else {"subject": subject}
        return [_entry_from_document(found) for found in await self._page(LOG, query, limit, older, newer, newest)]

    async def _page(
        self,
        collection: Collection,
        query: Mapping[str, Any],
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,  # noqa: FBT001 - the callers name it
    ) -> list[Document]:
        bounds = [
            {"$or": [{"at": {sign: place[0]}}, {"at": place[0], "_id": {sign: place[1]}}]}
            for sign, place in (("$lt", older), ("$gt", newer))
            if place is not None
        ]
        direction = -1 if newest else 1
        found = await self._database.find(
            collection.name,
            {**query, "$and": bounds} if bounds else query,
            limit=limit,
            sort=[("at", direction), ("_id", direction)],
        )
        return found if newest else found[::-1]


class DraftWrites:
    """Drafts and log inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def get_draft(self, draft: str) -> Draft:
        """The draft of that id.

        Raises:
            UnknownDraftError: there is none.
        """
        document = await self._tx.find_one(DRAFTS.name, {"_id": draft})
        if document is None:
            raise UnknownDraftError(draft)
        return draft_from_document(document)

    async def insert(self, draft: Draft) -> None:
        """Begin a draft."""
        await self._tx.insert_many(DRAFTS.name, [draft_to_document(draft)])

    async def save(self, before: Draft, after: Draft) -> None:
        """Put the draft after a step in the place of what it was before."""
        document = draft_to_document(after)
        del document["_id"]
        await self._tx.update_one(
            DRAFTS.name, {"_id": before.id, "revision": Int64(before.revision)}, {"$set": document}
        )

    async def log(self, entry: LogEntry) -> None:
        """Append to the log."""
        await self._tx.insert_many(LOG.name, [_entry_to_document(entry)])
