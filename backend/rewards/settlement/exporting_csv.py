"""A statement as CSV: facts, a blank line, lines. UTF-8 with byte order mark, RFC 4180 (IETF, 2005)."""

from __future__ import annotations

import csv
import io
from typing import IO, TYPE_CHECKING

from backend.ledger.statements import BYTE_ORDER_MARK, harmless
from backend.rewards.settlement.exporting_table import Fen, yuan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.rewards.settlement.exporting_table import Row, Shown


class CsvFile:
    """Writes a statement line by line; no text in it is taken for a formula."""

    def __init__(self, file: IO[bytes], shown: Shown) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="")
        self._text.write(BYTE_ORDER_MARK)
        self._writer = csv.writer(self._text, lineterminator="\r\n")
        self._writer.writerow([shown.title])
        for name, value in shown.facts:
            self._writer.writerow([name, yuan(value.fen) if isinstance(value, Fen) else harmless(str(value))])
        self._writer.writerow([])
        self._writer.writerow(shown.columns)

    def add(self, rows: Iterable[Row]) -> None:
        """Write these lines."""
        self._writer.writerows(
            (
                f"{row.time:%Y-%m-%d %H:%M:%S}",
                row.kind,
                harmless(row.number),
                harmless(row.title),
                harmless(row.shop),
                row.points,
                row.fen,
                yuan(row.fen),
                row.commission,
                harmless(row.transaction),
            )
            for row in rows
        )

    def finish(self) -> None:
        """Write what is left; the file stays open."""
        self._text.flush()
        self._text.detach()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        self._text.detach()
