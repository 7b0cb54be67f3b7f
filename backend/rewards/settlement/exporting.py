"""Writes a statement with all its lines into a file, in memory that does not grow with them, and checks what it writes.

The lines are read from the book once more: a file is given out only if they still give the statement's checksum.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Protocol

from backend.rewards.settlement.errors import StatementChangedError
from backend.rewards.settlement.exporting_csv import CsvFile
from backend.rewards.settlement.exporting_pdf import PdfFile
from backend.rewards.settlement.exporting_table import show
from backend.rewards.settlement.exporting_xlsx import XlsxFile
from backend.rewards.settlement.rules import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from backend.kernel.errors import Language
    from backend.rewards.settlement.exporting_table import Row, Shown
    from backend.rewards.settlement.model import Statement
    from backend.rewards.settlement.service import Settlement

CHUNK = 1 << 16


class Form(StrEnum):
    """Forms of a statement's file."""

    CSV = "csv"
    XLSX = "xlsx"
    PDF = "pdf"


class Writer(Protocol):
    """A file that is written line by line."""

    def add(self, rows: Iterable[Row]) -> None:
        """Write these lines."""

    def finish(self) -> None:
        """Write what is left; the file stays open."""

    def abandon(self) -> None:
        """Let go of everything but the file, which is of no use."""


WRITERS: Mapping[Form, Callable[[IO[bytes], Shown], Writer]] = {
    Form.CSV: CsvFile,
    Form.XLSX: XlsxFile,
    Form.PDF: PdfFile,
}
MEDIA_TYPES: Mapping[Form, str] = {
    Form.CSV: "text/csv; charset=utf-8",
    Form.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Form.PDF: "application/pdf",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """A file without a name, gone once nobody holds it; its size in bytes and SHA-256."""

    file: IO[bytes]
    size: int
    sha256: bytes

    def chunks(self) -> Iterator[bytes]:
        """Its bytes."""
        with self.file:
            while chunk := self.file.read(CHUNK):
                yield chunk


async def export(settlement: Settlement, statement: Statement, form: Form, language: Language) -> Exported:
    """The statement with all its lines as a file.

    Raises:
        StatementChangedError: the book no longer gives the lines the statement was made of.
        UnknownStatementError: its merchant is gone.
        UnavailableError: a server does not answer.
    """
    shown = show(statement, await settlement.find_merchant(statement), language, settlement.zone)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - handed out
    try:
        await _write(settlement, WRITERS[form](file, shown), shown)
        return await asyncio.to_thread(_finished, file)
    except BaseException:
        file.close()
        raise


async def _write(settlement: Settlement, writer: Writer, shown: Shown) -> None:
    try:
        await _add_lines(settlement, writer, shown)
    except BaseException:
        await asyncio.to_thread(writer.abandon)
        raise
    await asyncio.to_thread(writer.finish)


async def _add_lines(settlement: Settlement, writer: Writer, shown: Shown) -> None:
    tally, statement = Tally(), shown.statement
    async with aclosing(settlement.stream_lines(statement)) as batches:
        async for batch in batches:
            for detailed in batch:
                tally.add(detailed.line)
            await asyncio.to_thread(writer.add, [shown.row(detailed) for detailed in batch])
    if tally.checksum(statement) != statement.checksum:
        raise StatementChangedError


def _finished(file: IO[bytes]) -> Exported:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    file.seek(0)
    return Exported(file, size, digest.digest())
