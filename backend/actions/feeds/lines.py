"""Lines of a partner's CSV file as fields, one physical line per row. Knows no columns; must not hold more than a line.

One line is one row even where a quote is left open: a broken quote must cost its own row, never those after it.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from backend.actions.feeds.model import FeedFormatError, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

# The longest row of any published format is under 1 KiB; a longer line is not a row, and must not fill the memory.
MAX_LINE_BYTES = 65_536
# No published text holds a control character, and none may reach a reference or an attribute.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def split_fields(line: str) -> list[str]:
    """Fields of one CSV line."""
    if '"' not in line:
        return line.split(",")
    return next(csv.reader((line,)))


def _next_line(file: BinaryIO) -> tuple[bytes, int]:
    """The next line and the bytes it took; a line over the limit is passed over and comes back as a NUL."""
    raw = file.readline(MAX_LINE_BYTES)
    taken = len(raw)
    if taken < MAX_LINE_BYTES or raw.endswith(b"\n"):
        return raw, taken
    while chunk := file.readline(MAX_LINE_BYTES):
        taken += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return b"\0", taken


def _decode(raw: bytes) -> str:
    # Operators' dumps hold mojibake; a replaced letter costs one station name, a decoding error would cost the file.
    return raw.decode("utf-8", errors="replace").rstrip("\r\n")


class CsvRows:
    """Data rows of a CSV file with a header, as ``(row, fields)``; ``position`` bytes are read.

    ``fields`` is None where the line cannot be a row: longer than ``MAX_LINE_BYTES``, with control characters, or with
    another number of fields than the header. Empty lines are no rows.
    """

    def __init__(self, path: Path, name_of: Callable[[str], str]) -> None:
        self._path = path
        self.total_bytes = size_of(path)
        self.position = 0
        with path.open("rb") as file:
            raw, self._header_bytes = _next_line(file)
        names = [name_of(field) for field in split_fields(_decode(raw).lstrip("\ufeff"))]
        self.columns = {name: index for index, name in reversed(list(enumerate(names)))}
        self._width = len(names)

    def require(self, *names: str) -> list[int]:
        """Positions of the named columns.

        Raises:
            FeedFormatError: the header lacks one.
        """
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise FeedFormatError(self._path.name, f"the header lacks {', '.join(missing)}")
        return [self.columns[name] for name in names]

    def __iter__(self) -> Iterator[tuple[int, list[str] | None]]:
        row = 0
        with self._path.open("rb") as file:
            file.seek(self._header_bytes)
            self.position = self._header_bytes
            while True:
                raw, taken = _next_line(file)
                if not taken:
                    return
                self.position += taken
                line = _decode(raw)
                if not line.strip():
                    continue
                row += 1
                fields = None if _CONTROL.search(line) else split_fields(line)
                yield row, fields if fields is not None and len(fields) == self._width else None
