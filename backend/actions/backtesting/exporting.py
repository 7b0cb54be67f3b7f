"""A back-test's sums as one table, for spreadsheets and data tools: CSV or Parquet."""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING

import polars as pl

from backend.actions.backtesting.tallying import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.actions.backtesting.model import Result

_SCHEMA = {"part": pl.String, "name": pl.String, "citizens": pl.Int64} | dict.fromkeys(COLUMNS, pl.Int64)


def to_csv(result: Result) -> bytes:
    """The table as CSV in UTF-8, with a line of column names."""
    return _table(result).write_csv().encode()


def to_parquet(result: Result) -> bytes:
    """The table as a Parquet file."""
    buffer = io.BytesIO()
    _table(result).write_parquet(buffer)
    return buffer.getvalue()


def _table(result: Result) -> pl.DataFrame:
    return pl.DataFrame(list(_rows(result)), schema=_SCHEMA, orient="row")


def _rows(result: Result) -> Iterator[tuple[object, ...]]:
    """All sums: part of the result, name in it, citizens where they are counted, and every column."""
    yield "total", "all", None, *dataclasses.astuple(result.total)
    sections = {"kind": result.kinds, "district": result.districts, "day": result.days, "decile": result.deciles}
    for part, rows in sections.items():
        for row in rows:
            yield part, row.name, row.citizens, *dataclasses.astuple(row.sums)
