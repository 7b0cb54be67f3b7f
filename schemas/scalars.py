"""Scalars of the contract: integers beyond 32 bits, moments with offset, plain JSON objects."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from backend.kernel.units import INT64_MAX

BigInt = NewType("BigInt", int)
JsonMap = NewType("JsonMap", dict[str, Any])
MAX_JSON_INTEGER = 2**53 - 1
RFC_3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})")


def _parse_big_int(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -INT64_MAX - 1 <= value <= INT64_MAX:
        raise GraphQLError(f"BigInt needs a whole number from {-INT64_MAX - 1} to {INT64_MAX}")
    return value


def _show_big_int(value: int) -> int | str:
    return value if -MAX_JSON_INTEGER <= value <= MAX_JSON_INTEGER else str(value)


def _parse_moment(value: object) -> datetime:
    if not isinstance(value, str) or not RFC_3339.fullmatch(value):
        raise GraphQLError("DateTime needs RFC 3339 with an offset, like 2026-11-21T08:30:00+08:00")
    try:
        moment = datetime.fromisoformat(value.upper())
        moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise GraphQLError("DateTime names no moment of the calendar") from error
    return moment


def _show_moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse_map(value: object) -> object:
    if not isinstance(value, dict):
        raise GraphQLError("JSON needs an object here")
    return value


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="64-bit whole number: a JSON number up to 2^53-1, beyond that a string; both are accepted.",
        serialize=_show_big_int,
        parse_value=_parse_big_int,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="RFC 3339 moment; an offset is required on input, output is UTC with milliseconds.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_show_moment,
        parse_value=_parse_moment,
    ),
    JsonMap: strawberry.scalar(
        name="JSON", description="A JSON object.", serialize=lambda value: value, parse_value=_parse_map
    ),
}
