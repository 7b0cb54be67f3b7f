"""The bytes that are hashed and signed, version 1, exactly as in ``docs/receipts.md``. Pure; the hot path of sealing.

Each kind of bytes begins with a line of its own, so that none can be passed off as another.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from backend.kernel.merkle import LEAF_PREFIX
from backend.ledger.sealing.model import VERSION, KeyId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backend.ledger.sealing.model import Block, Day, Header, Receipt

LEAF_TAG = b"tanhui-transaction-1\n"
BLOCK_TAG = b"tanhui-block-1\n"
DAY_TAG = b"tanhui-day-1\n"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
MILLISECOND = timedelta(milliseconds=1)
KEY_ID_DIGITS = 16
_HASHED_TAG = LEAF_PREFIX + LEAF_TAG
# A time that was not turned into milliseconds must fail, not appear as a text of orjson's choice.
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


class NotCanonicalError(ValueError):
    """A value has no canonical bytes: a field is missing or of the wrong type."""


def canonical_bytes(value: object) -> bytes:
    """JSON with sorted keys, in UTF-8, without blanks; of texts, integers, booleans, lists and objects.

    Raises:
        NotCanonicalError: something else is in it.
    """
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:
        raise NotCanonicalError(str(error)) from error


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970-01-01T00:00Z."""
    return (moment - EPOCH) // MILLISECOND


def moment_of(milliseconds_since_epoch: int) -> datetime:
    """The moment of so many milliseconds since 1970-01-01T00:00Z."""
    return EPOCH + milliseconds_since_epoch * MILLISECOND


def leaf_object(document: Mapping[str, Any], epoch: datetime = EPOCH) -> dict[str, Any]:
    """The stored home document of a transaction as the object that is sealed: what moved, not where it is kept.

    Postings and cause are taken as they stand, so that a field added to them changes the leaf. ``epoch`` is
    ``NAIVE_EPOCH`` for documents read without time zone, which is quicker.

    Raises:
        NotCanonicalError: the document is no transaction.
    """
    try:
        leaf = {
            "at": (document["at"] - epoch) // MILLISECOND,
            "cause": document["cause"],
            "id": document["_id"],
            "key": document["key"],
            "kind": document["kind"],
            "opens": (document["opens"] - epoch) // MILLISECOND,
            "postings": [
                {**posting, "lots": _lots(posting["lots"], epoch)} if "lots" in posting else posting
                for posting in document["postings"]
            ],
        }
        # Most transactions have none of these.
        if "hold" in document:
            leaf["hold"] = document["hold"]
        if "draws" in document:
            leaf["draws"] = document["draws"]
        if "final" in document:
            leaf["final"] = document["final"]
        if "expires_at" in document:
            leaf["expires_at"] = (document["expires_at"] - epoch) // MILLISECOND
        if "corrects" in document:
            leaf["corrects"] = document["corrects"]
        if "lots" in document:
            leaf["lots"] = _lots(document["lots"], epoch)
    except (KeyError, TypeError, OverflowError) as error:
        message = f"no transaction: {error!r}"
        raise NotCanonicalError(message) from error
    return leaf


def _lots(lots: Sequence[Mapping[str, Any]], epoch: datetime) -> list[dict[str, Any]]:
    return [{**lot, "expires_at": (lot["expires_at"] - epoch) // MILLISECOND} for lot in lots]


def leaf_entry(document: Mapping[str, Any]) -> bytes:
    """The bytes of a transaction's leaf, from its stored home document.

    Raises:
        NotCanonicalError: the document is no transaction.
    """
    return LEAF_TAG + canonical_bytes(leaf_object(document))


def leaf_digest(document: Mapping[str, Any], epoch: datetime = EPOCH) -> bytes:
    """The leaf itself: 32 bytes, RFC 9162's hash of ``leaf_entry``.

    Raises:
        NotCanonicalError: the document is no transaction.
    """
    return sha256(_HASHED_TAG + canonical_bytes(leaf_object(document, epoch))).digest()


def key_id(public_key: bytes) -> KeyId:
    """The name of an Ed25519 public key (its 32 raw bytes)."""
    return KeyId(sha256(public_key).hexdigest()[:KEY_ID_DIGITS])


def header_object(header: Header) -> dict[str, Any]:
    """The header as it is signed and shown."""
    return {
        "version": VERSION,
        "programme": header.programme,
        "height": header.height,
        "previous": header.previous,
        "size": header.size,
        "root": header.root,
        "sealed_at": milliseconds(header.sealed_at),
        "key": header.key,
    }


def header_bytes(header: Header) -> bytes:
    """What a block's signature signs."""
    return BLOCK_TAG + canonical_bytes(header_object(header))


def block_hash(header: Header) -> bytes:
    """What the next block names as its previous one: 32 bytes."""
    return sha256(header_bytes(header)).digest()


def day_object(programme: str, day: Day, blocks: Sequence[Block], public_key: str) -> dict[str, Any]:
    """A day's document, its signature included; ``public_key`` is that of ``day.key``."""
    return {
        "version": VERSION,
        "programme": programme,
        "date": day.date.isoformat(),
        "final": day.is_final,
        "blocks": [{"header": header_object(block.header), "signature": block.signature} for block in blocks],
        "root": day.root,
        "keys": {**{block.header.key: block.public_key for block in blocks}, day.key: public_key},
        "key": day.key,
        "signature": day.signature,
    }


def day_bytes(document: Mapping[str, Any]) -> bytes:
    """What a day's signature signs: the document without ``signature``."""
    return DAY_TAG + canonical_bytes({name: value for name, value in document.items() if name != "signature"})


def receipt_object(receipt: Receipt) -> dict[str, Any]:
    """The receipt as a client saves it."""
    return {
        "version": VERSION,
        "transaction": receipt.leaf,
        "proof": {"index": receipt.index, "path": list(receipt.path)},
        "block": header_object(receipt.block.header),
        "signature": receipt.block.signature,
        "public_key": receipt.block.public_key,
    }


def days_object(programme: str, days: Sequence[Day], keys: Mapping[KeyId, str]) -> dict[str, Any]:
    """The list of days and of every key that ever signed one."""
    return {
        "version": VERSION,
        "programme": programme,
        "keys": dict(keys),
        "days": [
            {"date": day.date.isoformat(), "final": day.is_final, "first": day.first, "last": day.last} for day in days
        ],
    }
