"""Files of batches: the evidence pack for the verifier, and the register of issued serials; in bounded memory.

The same batch gives the same bytes. What stands in a pack names nobody: contributors have pseudonyms.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from backend.identity.model import StaffRole
from backend.ledger.model import CREDIT
from backend.market.pooling.errors import UnknownBatchError
from backend.market.pooling.model import BatchCode, BatchStage
from backend.market.pooling.snapshots import find_batch_in, stream_acts, stream_batches, stream_contributions
from backend.market.pooling.staff import EXPORTING, require_role
from backend.market.pooling.tables import (
    LINES_AT_ONCE,
    Pseudonyms,
    act_lines,
    contribution_lines,
    csv_bytes,
    methodologies_of,
)
from backend.market.serials.store import RETIRED, stream_ranges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from backend.actions.model import RuleRef
    from backend.identity.model import Principal
    from backend.ledger.model import OwnerId
    from backend.market.pooling.model import Batch
    from backend.market.serials.model import SerialRange
    from backend.market.settings import MarketSettings
    from backend.mongo.client import Database, Snapshot
    from backend.rules.service import Rules

CHUNK = 1 << 16
# The first moment a ZIP can tell: the bytes shall not depend on when they were written.
EPOCH = (1980, 1, 1, 0, 0, 0)
SAMPLE_COLUMNS = ("place", "action")
REGISTER_COLUMNS = (
    "batch",
    "project_zh",
    "project_en",
    "methodologies",
    "vintage",
    "first_serial",
    "last_serial",
    "grams",
    "holder",
    "status",
    "verifier",
    "report_sha256",
    "content_sha256",
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A file without a name, gone once nobody holds it; its size in bytes and SHA-256."""

    file: IO[bytes]
    size: int
    sha256: bytes

    def chunks(self) -> Iterator[bytes]:
        """Its bytes."""
        with self.file:
            while chunk := self.file.read(CHUNK):
                yield chunk


class BatchFiles:
    """Files of batches."""

    def __init__(self, *, settings: MarketSettings, database: Database, rules: Rules, lookup_key: bytes) -> None:
        self._threshold_g = settings.aggregation_threshold_g
        self._database = database
        self._rules = rules
        self._lookup_key = lookup_key

    async def pack(self, principal: Principal, code: str) -> Packed:
        """The evidence pack (ZIP): contributions, acts and sample as CSV, the batch as JSON, and their SHA-256.

        Raises:
            ForbiddenError: neither verifier nor administrator.
            UnknownBatchError: there is no such batch.
            UnavailableError: MongoDB does not answer.
        """
        require_role(principal, EXPORTING, StaffRole.VERIFIER, StaffRole.ADMIN)
        methodologies = methodologies_of(await self._rules.book())
        file = tempfile.TemporaryFile()  # noqa: SIM115 - handed out
        try:
            async with self._database.snapshot() as snapshot:
                await self._write(file, snapshot, await _get(snapshot, code), methodologies)
            return await asyncio.to_thread(_finished, file)
        except BaseException:
            file.close()
            raise

    async def _write(
        self, file: IO[bytes], snapshot: Snapshot, batch: Batch, methodologies: Mapping[RuleRef, str]
    ) -> None:
        pseudonyms = Pseudonyms(self._lookup_key, batch)
        acts = act_lines(stream_acts(snapshot, batch.code), pseudonyms, methodologies)
        given = stream_contributions(snapshot, batch.code, given=True)
        contributions = contribution_lines(given, pseudonyms)
        sample = batch.sample.actions if batch.sample else ()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            hashes = {
                "contributions.csv": await _add(archive, "contributions.csv", contributions),
                "acts.csv": await _add(archive, "acts.csv", acts),
                "sample.csv": await _add(
                    archive, "sample.csv", _once(csv_bytes([SAMPLE_COLUMNS, *enumerate(sample, 1)]))
                ),
            }
            told = _json({**_told(batch), "threshold_g": self._threshold_g, "content_sha256": hashes["acts.csv"]})
            hashes["batch.json"] = await _add(archive, "batch.json", _once(told))
            manifest = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
            await _add(archive, "MANIFEST", _once(manifest.encode()))

    async def register(self) -> Packed:
        """The register of issued serials as CSV, one line a range, by credit and serial; for everybody.

        Raises:
            UnavailableError: MongoDB does not answer.
        """
        file = tempfile.TemporaryFile()  # noqa: SIM115 - handed out
        try:
            async with self._database.snapshot() as snapshot:
                issued = {
                    batch.code: batch async for batch in stream_batches(snapshot) if batch.stage is BatchStage.ISSUED
                }
                rows: list[Sequence[object]] = [REGISTER_COLUMNS]
                async for credit, run, owner, _ in stream_ranges(snapshot):
                    batch = issued.get(BatchCode(credit.removeprefix(CREDIT)))
                    if batch is not None:
                        rows.append(_register_row(batch, run, owner))
                    if len(rows) >= LINES_AT_ONCE:
                        await asyncio.to_thread(file.write, csv_bytes(rows))
                        rows = []
                await asyncio.to_thread(file.write, csv_bytes(rows))
            return await asyncio.to_thread(_finished, file)
        except BaseException:
            file.close()
            raise


async def _get(snapshot: Snapshot, code: str) -> Batch:
    found = await find_batch_in(snapshot, code)
    if found is None:
        raise UnknownBatchError
    return found


async def _add(archive: zipfile.ZipFile, name: str, parts: AsyncIterator[bytes]) -> str:
    """Write a file into the archive; its SHA-256, hex."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    # Else the bytes would depend on the system.
    info.create_system = 3
    digest = hashlib.sha256()
    with archive.open(info, "w") as target:
        async for part in parts:
            digest.update(part)
            await asyncio.to_thread(target.write, part)
    return digest.hexdigest()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _told(batch: Batch) -> dict[str, object]:
    """The batch for people and machines outside."""
    sample = batch.sample
    return {
        "batch": batch.code,
        "project": batch.project._asdict(),
        "scenario": batch.scenario.value,
        "profile": batch.profile,
        "vintage": batch.vintage,
        "since": batch.since.isoformat(),
        "until": batch.until.isoformat(),
        "contributions": batch.totals.contributions,
        "acts": batch.totals.acts,
        "mg": batch.totals.mg,
        "sample": {"size": sample.size, "seed": sample.seed} if sample else None,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True).encode() + b"\n"


def _register_row(batch: Batch, run: SerialRange, owner: OwnerId) -> list[object]:
    assert batch.issue is not None
    assert batch.verdict is not None
    is_retired = owner.startswith(RETIRED)
    return [
        batch.code,
        batch.project.zh,
        batch.project.en,
        " ".join(batch.issue.methodologies),
        batch.vintage,
        run.first,
        run.last,
        run.grams,
        # Of whom it is, only the sort: pool, citizen, enterprise or retired.
        owner.partition(":")[0],
        "retired" if is_retired else "active",
        batch.verdict.organisation,
        batch.verdict.report_hash,
        batch.verdict.content,
    ]


def _finished(file: IO[bytes]) -> Packed:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    file.seek(0)
    return Packed(file, size, digest.digest())
