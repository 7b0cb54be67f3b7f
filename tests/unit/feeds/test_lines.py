"""CSV lines: a bad one costs only itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend.actions.feeds.lines import MAX_LINE_BYTES, CsvRows
from backend.actions.feeds.model import FeedFormatError

if TYPE_CHECKING:
    from pathlib import Path


def rows_of(path: Path, content: bytes) -> list[tuple[int, list[str] | None]]:
    path.write_bytes(content)
    rows = CsvRows(path, str.strip)
    found = list(rows)
    assert rows.position == rows.total_bytes == len(content)
    return found


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b"1,2", ["1", "2"]),
        (b"1,2\r", ["1", "2"]),
        (b'"a,b",2', ["a,b", "2"]),
        (b'"open,2', None),
        (b'1,"open', ["1", "open"]),
        (b"1", None),
        (b"1,2,3", None),
        (b"1,\0", None),
        (b"1,\x1b[31m", None),
        (b"1,\xff\xfe", ["1", "\ufffd\ufffd"]),
        ("1,孖岭".encode(), ["1", "孖岭"]),
        (b"1," + b"x" * MAX_LINE_BYTES, None),
        (b"1," + b"x" * (3 * MAX_LINE_BYTES), None),
    ],
)
def test_a_bad_line_costs_only_itself(tmp_path: Path, line: bytes, fields: list[str] | None) -> None:
    found = rows_of(tmp_path / "f.csv", b"\xef\xbb\xbfa,b\n" + line + b"\n\n8,9\n")
    assert found == [(1, fields), (2, ["8", "9"])]


def test_the_last_line_needs_no_line_feed(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "f.csv", b"a,b\n1,2") == [(1, ["1", "2"])]


def test_an_endless_last_line_is_one_bad_row(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "f.csv", b"a,b\n" + b"x" * (2 * MAX_LINE_BYTES)) == [(1, None)]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"")
    with pytest.raises(FeedFormatError, match="the header lacks a, b"):
        CsvRows(path, str.strip).require("a", "b")
