"""Blocks, days, receipts and what could not be sealed, as immutable values. No I/O, no bytes: see ``canonical``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from backend.kernel.ids import TransactionId

KeyId = NewType("KeyId", str)

VERSION = 1
NO_BLOCK = "0" * 64


class SealBrokenError(Exception):
    """What is stored is not what was sealed; the message names the place. Never a user's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a block's signature covers; ``previous`` and ``root`` are hex, ``key`` names the public key.

    Heights count from 1 without a gap; ``sealed_at`` never decreases along them; ``size`` counts transactions.
    """

    programme: str
    height: int
    previous: str
    size: int
    root: str
    sealed_at: datetime
    key: KeyId


@dataclass(frozen=True, slots=True)
class Block:
    """A signed header with its hash, the public key it is signed with (hex) and the local date it was sealed on."""

    header: Header
    hash: str
    signature: str
    public_key: str
    day: date


@dataclass(frozen=True, slots=True)
class Day:
    """The blocks of one local date, ``first`` to ``last``, as signed for publication; ``root`` is over their hashes.

    A final day has all its blocks and never changes again.
    """

    date: date
    is_final: bool
    first: int
    last: int
    root: str
    key: KeyId
    signature: str


@dataclass(frozen=True, slots=True)
class DayDocument:
    """A day as published: JSON in UTF-8."""

    text: bytes
    is_final: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """A sealed transaction (its leaf object) and the proof of its place in the block; ``path`` is hex, lowest first."""

    transaction: TransactionId
    leaf: Mapping[str, Any]
    index: int
    path: tuple[str, ...]
    block: Block


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be sealed: how many transactions (counted to the size of a block), the first since when."""

    transactions: int
    since: datetime | None


class UnsealableReason(StrEnum):
    """Why an announced transaction was left out of the block it was announced for."""

    MISSING = "MISSING"
    MALFORMED = "MALFORMED"
    SEALED_BEFORE = "SEALED_BEFORE"


@dataclass(frozen=True, slots=True)
class Unsealable:
    """An announced transaction that the block at ``height`` left out: the book was changed by somebody else's hand."""

    transaction: str
    reason: UnsealableReason
    height: int
    at: datetime
