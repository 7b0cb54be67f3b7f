"""A batch as lines of CSV: its contributors under pseudonyms, its acts with evidence, rule and earning.

Nothing in it can be worked out from a citizen's id: contributions and the transactions of pooling have ids that can,
so they are left out.

The hash of a batch's contents is that of its acts as a file: whoever has the file can compute it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from typing import TYPE_CHECKING

from backend.actions.model import RuleRef
from backend.kernel.crypto import keyed_hash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from backend.market.pooling.model import Batch, Contribution, PooledAct
    from backend.rules.service import RuleBook

LINES_AT_ONCE = 1_000
PSEUDONYM_DIGITS = 32
CONTRIBUTION_COLUMNS = ("contributor", "acts", "mg", "pool_mg", "own_mg")
ACT_COLUMNS = (
    "contributor",
    "number",
    "action",
    "kind",
    "occurred_at",
    "mg",
    "rule",
    "rule_version",
    "methodology",
    "tier",
    "evidence",
    "earning",
)


class Pseudonyms:
    """What stands for a citizen in the files of one batch: a keyed hash, another one in each batch."""

    def __init__(self, key: bytes, batch: Batch) -> None:
        self._key = key
        self._batch = batch.code
        # Acts come contributor by contributor.
        self._last = ("", "")

    def of(self, citizen: str) -> str:
        """The citizen's."""
        if self._last[0] != citizen:
            self._last = (citizen, keyed_hash(self._key, "pooling", self._batch, citizen)[:PSEUDONYM_DIGITS])
        return self._last[1]


def methodologies_of(book: RuleBook) -> dict[RuleRef, str]:
    """The code of the methodology behind each published rule version."""
    return {
        RuleRef(version.rule, version.version): version.methodology.code
        for versions in book.versions.values()
        for version in versions
    }


def contribution_row(contribution: Contribution, pseudonyms: Pseudonyms) -> list[object]:
    """A contribution's line."""
    one = contribution
    return [pseudonyms.of(one.citizen), one.acts, one.mg, one.pool_mg, one.own_mg]


def act_row(act: PooledAct, pseudonyms: Pseudonyms, methodologies: Mapping[RuleRef, str]) -> list[object]:
    """An act's line."""
    return [
        pseudonyms.of(act.citizen),
        act.number,
        act.action,
        act.kind,
        act.occurred_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        act.mg,
        act.rule.code,
        act.rule.version,
        methodologies.get(act.rule, ""),
        act.tier,
        act.evidence or "",
        act.earned,
    ]


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """The rows as CSV (RFC 4180) in UTF-8. What a spreadsheet would take for a formula is marked as text."""
    written = io.StringIO()
    csv.writer(written).writerows([_shown(value) for value in row] for row in rows)
    return written.getvalue().encode()


def _shown(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


async def act_lines(
    acts: AsyncIterator[PooledAct], pseudonyms: Pseudonyms, methodologies: Mapping[RuleRef, str]
) -> AsyncIterator[bytes]:
    """The file of the acts, some lines at a time."""
    rows: list[Sequence[object]] = [ACT_COLUMNS]
    async for act in acts:
        rows.append(act_row(act, pseudonyms, methodologies))
        if len(rows) >= LINES_AT_ONCE:
            yield csv_bytes(rows)
            rows = []
    yield csv_bytes(rows)


async def contribution_lines(
    contributions: AsyncIterator[Contribution], pseudonyms: Pseudonyms
) -> AsyncIterator[bytes]:
    """The file of the contributions, some lines at a time."""
    rows: list[Sequence[object]] = [CONTRIBUTION_COLUMNS]
    async for contribution in contributions:
        rows.append(contribution_row(contribution, pseudonyms))
        if len(rows) >= LINES_AT_ONCE:
            yield csv_bytes(rows)
            rows = []
    yield csv_bytes(rows)


async def hash_of(lines: AsyncIterator[bytes]) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    async for part in lines:
        digest.update(part)
    return digest.hexdigest()
