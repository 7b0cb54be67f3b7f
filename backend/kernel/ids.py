"""Identifiers: random ones sort by birth; derived ones make a repeated request meet its first effect."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from datetime import datetime

CitizenId = NewType("CitizenId", str)
ActionId = NewType("ActionId", str)
TransactionId = NewType("TransactionId", str)
ShardNumber = NewType("ShardNumber", int)

SHARD_COUNT = 64
_SEPARATOR = b"\x1f"


def new_id(prefix: str, now: datetime) -> str:
    """A fresh id ``<prefix>_<32 hex digits>``: 48 bits of time, 80 of chance; text order is birth order."""
    milliseconds = int(now.timestamp() * 1000)
    return f"{prefix}_{milliseconds:012x}{secrets.token_hex(10)}"


def derived_id(prefix: str, *parts: str) -> str:
    """The id that these parts, and no others, always give: ``<prefix>_`` and 128 bits of their SHA-256.

    Parts are length-prefixed, so no two different lists of parts share their bytes.
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(str(len(raw)).encode() + _SEPARATOR + raw)
    return f"{prefix}_{digest.hexdigest()[:32]}"


def shard_of(owner: str) -> ShardNumber:
    """Which of the 64 shards this citizen or owner belongs to, for ever the same."""
    return ShardNumber(hashlib.sha256(owner.encode()).digest()[0] % SHARD_COUNT)
