"""The forms of receipts and days as JSON texts: anything else is refused with the first place where. Pure.

Strict on purpose: a document that two readers could understand in two ways proves nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

from backend.kernel.units import INT64_MAX
from backend.ledger.sealing.model import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Shape = Callable[[object, str], None]

# A day of a block every second has about 60 MB; nothing honest is larger.
MAX_BYTES = 64 * 1024 * 1024
MAX_PATH = 64
SHOWN = 60


class MalformedError(ValueError):
    """A document is not of its form; the text begins with the place."""


def read_document(text: bytes, shape: Shape, place: str) -> dict[str, Any]:
    """The JSON object, of exactly that form: no name twice, no number but integers of 64 bits.

    Raises:
        MalformedError: it is not; with the first place where.
    """
    if len(text) > MAX_BYTES:
        raise MalformedError(f"{place}: more than {MAX_BYTES} bytes")
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_once, parse_float=_no_number, parse_constant=_no_number
        )
    except MalformedError as error:
        raise MalformedError(f"{place}: {error}") from None
    except (ValueError, RecursionError) as error:
        # Bytes that are no UTF-8, text that is no JSON, integers of thousands of digits, endless nesting.
        raise MalformedError(f"{place}: no JSON ({type(error).__name__})") from None
    shape(value, place)
    assert isinstance(value, dict)
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise MalformedError(f"{ascii(twice)[:SHOWN]} stands twice in one object")
    return made


def _no_number(text: str) -> NoReturn:
    raise MalformedError(f"{text[:SHOWN]} is no integer")


def _record(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    known = {**required, **(optional or {})}

    def check(value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise MalformedError(f"{place} is no object")
        for name in required:
            if name not in value:
                raise MalformedError(f"{place}.{name} is missing")
        for name, inner in value.items():
            if name not in known:
                raise MalformedError(f"{place} has {ascii(name)[:SHOWN]}, which does not belong there")
            known[name](inner, f"{place}.{name}")

    return check


def _map_of(name_shape: Shape, shape: Shape) -> Shape:
    def check(value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise MalformedError(f"{place} is no object")
        for name, inner in value.items():
            name_shape(name, f"{place}: the name {ascii(name)[:SHOWN]}")
            shape(inner, f"{place}.{ascii(name)[:SHOWN]}")

    return check


def _list_of(shape: Shape, longest: int | None = None) -> Shape:
    def check(value: object, place: str) -> None:
        if not isinstance(value, list) or (longest is not None and len(value) > longest):
            raise MalformedError(f"{place} is no list, or too long")
        for number, inner in enumerate(value):
            shape(inner, f"{place}[{number}]")

    return check


def _whole(least: int) -> Shape:
    def check(value: object, place: str) -> None:
        if type(value) is not int or not least <= value <= INT64_MAX:
            raise MalformedError(f"{place} is no integer from {least} to {INT64_MAX}")

    return check


def _text_like(pattern: str) -> Shape:
    compiled = re.compile(pattern)

    def check(value: object, place: str) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise MalformedError(f"{place} is no text like {pattern}")

    return check


def _text(value: object, place: str) -> None:
    # A lone surrogate can stand in JSON but in no UTF-8.
    if not isinstance(value, str) or (not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)):
        raise MalformedError(f"{place} is no text")


def _only(expected: object) -> Shape:
    def check(value: object, place: str) -> None:
        if type(value) is not type(expected) or value != expected:
            raise MalformedError(f"{place} is not {expected}")

    return check


def _flag(value: object, place: str) -> None:
    if not isinstance(value, bool):
        raise MalformedError(f"{place} is neither true nor false")


def _hex(size: int) -> Shape:
    return _text_like(f"[0-9a-f]{{{2 * size}}}")


_HASH, _SIGNATURE, _KEY_NAME, _KEY = _hex(32), _hex(64), _hex(8), _hex(32)
_DATE = _text_like("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = _whole(-INT64_MAX - 1)
_LOT = _record({"expires_at": _MOMENT, "amount": _whole(1)})
_TRANSACTION = _record(
    {
        "id": _text_like("tx_[0-9a-f]{32}"),
        "key": _text,
        "kind": _text_like("[A-Z_]{1,32}"),
        "at": _MOMENT,
        "opens": _MOMENT,
        "postings": _list_of(
            _record({"from": _text, "to": _text, "asset": _text, "amount": _whole(1)}, {"lots": _list_of(_LOT)})
        ),
        "cause": _map_of(_text, _text),
    },
    {
        "hold": _record({"owner": _text, "id": _text}),
        "draws": _list_of(_record({"owner": _text, "id": _text, "final": _flag})),
        "final": _only(expected=False),
        "expires_at": _MOMENT,
        "corrects": _text,
        "lots": _list_of(_record({"account": _text, "expires_at": _MOMENT, "amount": _whole(1)})),
    },
)
_HEADER = _record(
    {
        "version": _only(VERSION),
        "programme": _text,
        "height": _whole(1),
        "previous": _HASH,
        "size": _whole(0),
        "root": _HASH,
        "sealed_at": _MOMENT,
        "key": _KEY_NAME,
    }
)
RECEIPT = _record(
    {
        "version": _only(VERSION),
        "transaction": _TRANSACTION,
        "proof": _record({"index": _whole(0), "path": _list_of(_HASH, MAX_PATH)}),
        "block": _HEADER,
        "signature": _SIGNATURE,
        "public_key": _KEY,
    }
)
DAY = _record(
    {
        "version": _only(VERSION),
        "programme": _text,
        "date": _DATE,
        "final": _flag,
        "blocks": _list_of(_record({"header": _HEADER, "signature": _SIGNATURE})),
        "root": _HASH,
        "keys": _map_of(_KEY_NAME, _KEY),
        "key": _KEY_NAME,
        "signature": _SIGNATURE,
    }
)
DAYS = _record(
    {
        "version": _only(VERSION),
        "programme": _text,
        "keys": _map_of(_KEY_NAME, _KEY),
        "days": _list_of(
            _record({"date": _DATE, "final": _flag, "first": _whole(1), "last": _whole(1)}),
        ),
    }
)
