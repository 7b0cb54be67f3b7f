"""BSON documents of one form, read without decoding them. Knows BSON's bytes (bsonspec.org, version 1.1), no ledger.

A form is learned from one document: where its values stand, and the bytes between them, names, types and lengths
included. Any other document with the same bytes between has the same fields, and only then are its values read.
"""

from __future__ import annotations

import itertools
from struct import Struct
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Path = tuple[str, ...]
TEXT, DOCUMENT, ARRAY, FLAG, MOMENT, NULL, LONG = 2, 3, 4, 8, 9, 10, 18
NUMBER_BYTES = 8
MAX_FORMS = 1_024
_LENGTH = Struct("<i")
Learned = TypeVar("Learned")


class Place(NamedTuple):
    """Where in a document a value's bytes stand; a text's without its length and end."""

    path: Path
    start: int
    size: int
    is_text: bool


class UnknownTypeError(ValueError):
    """The document has a value of a type no form is made of."""


def places(raw: bytes, start: int = 0, path: Path = ()) -> Iterator[Place]:
    """Every text, 64-bit integer and moment of the document, in the order of its bytes.

    Raises:
        UnknownTypeError: another type but null, flag, document and array stands in it.
    """
    at = start + _LENGTH.size
    while raw[at]:
        end = raw.index(b"\0", at + 1)
        kind, inner = raw[at], (*path, raw[at + 1 : end].decode())
        at = end + 1
        if kind == TEXT:
            (size,) = _LENGTH.unpack_from(raw, at)
            yield Place(inner, at + _LENGTH.size, size - 1, is_text=True)
            at += _LENGTH.size + size
        elif kind in (LONG, MOMENT):
            yield Place(inner, at, NUMBER_BYTES, is_text=False)
            at += NUMBER_BYTES
        elif kind in (DOCUMENT, ARRAY):
            yield from places(raw, at, inner)
            at += _LENGTH.unpack_from(raw, at)[0]
        elif kind in (FLAG, NULL):
            at += kind == FLAG
        else:
            raise UnknownTypeError(f"type {kind} of {'.'.join(inner)}")


class Form:
    """The documents that are as ``raw`` but for the values of ``paths``: texts as bytes, moments in milliseconds."""

    __slots__ = ("_between", "_unpack", "paths", "size")

    def __init__(self, raw: bytes, is_value: Callable[[Path], bool]) -> None:
        """Learn the form.

        Raises:
            UnknownTypeError: see ``places``.
        """
        layout, after, paths = ["<"], 0, []
        for place in places(raw):
            if is_value(place.path):
                # Between two values there are always bytes, if only none of them: so they alternate.
                layout += (f"{place.start - after}s", f"{place.size}s" if place.is_text else "q")
                after = place.start + place.size
                paths.append(place.path)
        self.paths = tuple(paths)
        self.size = len(raw)
        self._unpack = Struct(f"{''.join(layout)}{len(raw) - after}s").unpack_from
        self._between = self._unpack(raw)[::2]

    def read(self, batch: bytes | memoryview, start: int) -> tuple[Any, ...] | None:
        """The values of the document that begins there, in the order of ``paths``; None where it has another form."""
        parts = self._unpack(batch, start)
        return parts[1::2] if parts[::2] == self._between else None


class Known(Generic[Learned]):
    """What was learned, by the size of documents; a bounded number, for texts of any length make forms of their own."""

    def __init__(self) -> None:
        self.by_size: dict[int, list[Learned]] = {}
        self._room = MAX_FORMS

    def add(self, size: int, learned: Learned) -> None:
        """Know one more, while there is room."""
        if self._room:
            self._room -= 1
            self.by_size.setdefault(size, []).append(learned)

    def __iter__(self) -> Iterator[Learned]:
        return itertools.chain.from_iterable(self.by_size.values())
