"""Relay: global ids, nodes and connections by keyset cursors, with a hard maximum page."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import strawberry

from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import InvalidInputError, Text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

MAX_PAGE = 100
DEFAULT_PAGE = 20
NOT_A_CURSOR = Text("不是此列表的游标", "not a cursor of this list")
Shown = TypeVar("Shown")
Item = TypeVar("Item")


def to_global_id(type_name: str, local_id: str) -> strawberry.ID:
    """An opaque id unique over all types."""
    return strawberry.ID(_encode(f"{type_name}:{local_id}"))


def from_global_id(global_id: str) -> tuple[str, str] | None:
    """Type name and local id, or None where the text is no global id."""
    type_name, separator, local_id = (_decode(global_id) or "").partition(":")
    return (type_name, local_id) if separator and type_name and local_id else None


def local_id_of(type_name: str, given: str) -> str:
    """The local id of a global id of that type; whatever else is given stands for itself."""
    parts = from_global_id(given)
    return parts[1] if parts and parts[0] == type_name else given


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(text: str) -> str | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None


@strawberry.interface(description="Anything with a global id.")
class Node:
    """What ``node(id:)`` can find. Its GraphQL type bears the name of its domain class."""

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Any]) -> strawberry.ID:
        """Global id, opaque and unique over all types."""
        return to_global_id(type(parent).__name__, parent.id)


@strawberry.type
class PageInfo:
    """Where a page stands in its list."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge(Generic[Shown]):
    """One item with its place."""

    cursor: str
    node: Shown


@strawberry.type
class Connection(Generic[Shown]):
    """One page of a list, in the order of the list."""

    edges: list[Edge[Shown]]
    page_info: PageInfo

    @strawberry.field
    def nodes(self) -> list[Shown]:
        """The items without their places."""
        return [edge.node for edge in self.edges]


@dataclass(frozen=True, slots=True)
class Span:
    """A checked request for a page: how many, between which places, from which end."""

    limit: int
    after: str | None
    before: str | None
    newest: bool


def page_span(first: int | None, after: str | None, last: int | None, before: str | None) -> Span:
    """Check the four Relay arguments.

    Raises:
        InvalidInputError: both ``first`` and ``last``, or a number outside 0–100, or a cursor that is none.
    """
    if first is not None and last is not None:
        raise InvalidInputError("first", Text("first 与 last 只能给一个", "give first or last, not both"))
    field, limit = ("last", last) if last is not None else ("first", first if first is not None else DEFAULT_PAGE)
    if not 0 <= limit <= MAX_PAGE:
        raise InvalidInputError(field, Text(f"0–{MAX_PAGE}", f"0–{MAX_PAGE}"))
    return Span(limit, _cursor("after", after), _cursor("before", before), newest=last is None)


def _cursor(field: str, text: str | None) -> str | None:
    if text is None:
        return None
    place = _decode(text)
    if place is None:
        raise InvalidInputError(field, NOT_A_CURSOR)
    return place


def moment_place(moment: datetime, local_id: str) -> str:
    """The place, in a list by time, of what has that moment and id."""
    return f"{moment.isoformat()}|{local_id}"


def read_moment_place(text: str | None, field: str) -> tuple[datetime, str] | None:
    """Moment and id of a place in a list by time.

    Raises:
        InvalidInputError: it is no such place.
    """
    if text is None:
        return None
    moment, _, local_id = text.partition("|")
    try:
        return to_milliseconds(datetime.fromisoformat(moment)), local_id
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(field, NOT_A_CURSOR) from error


async def connect(
    span: Span, fetch: Callable[[int], Awaitable[Sequence[Item]]], place_of: Callable[[Item], str]
) -> Connection[Any]:
    """Fetch one item more than asked for, to know whether the list goes on."""
    found = list(await fetch(span.limit + 1)) if span.limit else []
    more = len(found) > span.limit
    items = (found[: span.limit] if span.newest else found[-span.limit :]) if span.limit else []
    edges = [Edge(cursor=_encode(place_of(item)), node=item) for item in items]
    info = PageInfo(
        has_next_page=more if span.newest else span.before is not None,
        has_previous_page=span.after is not None if span.newest else more,
        start_cursor=edges[0].cursor if edges else None,
        end_cursor=edges[-1].cursor if edges else None,
    )
    return Connection(edges=edges, page_info=info)


async def connect_by_moment(
    span: Span, list_page: Callable[..., Awaitable[Sequence[Item]]], place_of: Callable[[Item], tuple[datetime, str]]
) -> Connection[Any]:
    """The same for a list by time: ``list_page`` takes ``limit``, the places ``older`` and ``newer``, ``newest``."""
    older, newer = read_moment_place(span.after, "after"), read_moment_place(span.before, "before")

    async def fetch(limit: int) -> Sequence[Item]:
        return await list_page(limit=limit, older=older, newer=newer, newest=span.newest)

    return await connect(span, fetch, lambda item: moment_place(*place_of(item)))
