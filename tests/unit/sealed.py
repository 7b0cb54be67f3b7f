"""A day of blocks under a key of its own, made without a server; and ways to falsify documents."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from bson import Int64
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend.kernel import merkle
from backend.kernel.ids import TransactionId
from backend.ledger.sealing import canonical
from backend.ledger.sealing.model import NO_BLOCK, Block, Day, Header, Receipt

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
BEGIN = datetime(2026, 11, 20, 18, 30, 0, 123_000, tzinfo=UTC)
TODAY = date(2026, 11, 21)


def stored(number: int, **changes: Any) -> dict[str, Any]:
    """A transaction as the book stores it."""
    return {
        "_id": f"tx_{number:032x}",
        "owner": "citizen:alice",
        "sequence": Int64(number + 1),
        "copy_of": None,
        "key": f"action:act_{number}",
        "payload": "0" * 64,
        "kind": "EARN",
        "at": BEGIN,
        "opens": datetime(2028, 11, 30, 16, tzinfo=UTC),
        "postings": [
            {"from": "programme:issuance", "to": "citizen:alice:points", "asset": "points", "amount": Int64(40)}
        ],
        "lines": [{"asset": "points", "change": Int64(40), "balance": Int64(40)}],
        "cause": {"rule": "R-BUS1", "action": f"act_{number}", "note": '公交\t"一"次\\'},
        **changes,
    }


FULL = stored(
    7,
    kind="POST",
    postings=[
        {
            "from": "citizen:alice:points",
            "to": "merchant:shop:points",
            "asset": "points",
            "amount": Int64(40),
            "lots": [{"expires_at": BEGIN + timedelta(days=3), "amount": Int64(40)}],
        }
    ],
    hold={"owner": "citizen:alice", "id": "tx_" + "a" * 32},
    draws=[
        {"owner": "citizen:alice", "id": "tx_" + "c" * 32, "final": True},
        {"owner": "enterprise:firm", "id": "tx_" + "d" * 32, "final": False},
    ],
    final=False,
    expires_at=BEGIN + timedelta(days=1),
    corrects="tx_" + "b" * 32,
    lots=[{"account": "citizen:alice:points", "expires_at": BEGIN + timedelta(days=2), "amount": Int64(5)}],
)

# A trade as the book stores it: a kilogram for 6 fen, the seller's order done, the buyer's open.
TRADE = stored(
    6,
    key="trade:zhenjiang-2026-001:1",
    kind="TRADE",
    postings=[
        {
            "from": "citizen:alice:credit:zhenjiang-2026-001",
            "to": "enterprise:firm:credit:zhenjiang-2026-001",
            "asset": "credit:zhenjiang-2026-001",
            "amount": Int64(1_000_000),
        },
        {"from": "enterprise:firm:cny", "to": "citizen:alice:cny", "asset": "cny", "amount": Int64(6)},
        {"from": "citizen:alice:cny", "to": "programme:fees", "asset": "cny", "amount": Int64(1)},
    ],
    cause={"trade": "1", "credit": "credit:zhenjiang-2026-001", "serials": "1-400,901-1500"},
    draws=[
        {"owner": "citizen:alice", "id": "tx_" + "1" * 32, "final": True},
        {"owner": "enterprise:firm", "id": "tx_" + "2" * 32, "final": False},
    ],
)


def public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def seal(documents: list[dict[str, Any]], previous: Block | None = None, key: Ed25519PrivateKey = KEY) -> Block:
    """The block of these transactions."""
    leaves = b"".join(map(canonical.leaf_digest, documents))
    header = Header(
        programme="zhenjiang",
        height=previous.header.height + 1 if previous else 1,
        previous=previous.hash if previous else NO_BLOCK,
        size=len(documents),
        root=merkle.root(leaves).hex(),
        sealed_at=previous.header.sealed_at + timedelta(minutes=1) if previous else BEGIN,
        key=canonical.key_id(key.public_key().public_bytes_raw()),
    )
    signed = canonical.header_bytes(header)
    return Block(header, sha256(signed).hexdigest(), key.sign(signed).hex(), public_hex(key), TODAY)


def publish(blocks: list[Block], key: Ed25519PrivateKey = KEY, *, is_final: bool = True) -> dict[str, Any]:
    """The signed document of a day."""
    root = merkle.root(b"".join(merkle.leaf_hash(bytes.fromhex(block.hash)) for block in blocks)).hex()
    name = canonical.key_id(key.public_key().public_bytes_raw())
    day = Day(TODAY, is_final, blocks[0].header.height, blocks[-1].header.height, root, name, "")
    document = canonical.day_object("zhenjiang", day, blocks, public_hex(key))
    return sign_day(document, key)


def sign_day(document: dict[str, Any], key: Ed25519PrivateKey = KEY) -> dict[str, Any]:
    return {**document, "signature": key.sign(canonical.day_bytes(document)).hex()}


DOCUMENTS = [*(stored(number) for number in range(6)), TRADE, FULL]
FIRST = seal([stored(1_000)])
SECOND = seal(DOCUMENTS, FIRST)
THIRD = seal([], SECOND)
LEAVES = b"".join(map(canonical.leaf_digest, DOCUMENTS))
DAY = publish([FIRST, SECOND, THIRD])


def receipt_of(index: int, block: Block = SECOND) -> dict[str, Any]:
    siblings = tuple(sibling.hex() for sibling in merkle.path(LEAVES, index))
    document = DOCUMENTS[index]
    receipt = Receipt(TransactionId(document["_id"]), canonical.leaf_object(document), index, siblings, block)
    return json.loads(canonical.canonical_bytes(canonical.receipt_object(receipt)))


RECEIPT = receipt_of(7)
TRADED = receipt_of(6)


def text(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def scalars(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place of the document that holds no object or list, and what it holds."""
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from scalars(inner, (*path, step))
    else:
        yield path, value


def changed(document: Any, path: tuple[Any, ...], to: Any) -> Any:
    forged = copy.deepcopy(document)
    inner = forged
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return forged


def another(value: Any) -> Any:
    """A value of the same sort that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value[:-1] + ("0" if value[-1] != "0" else "1")


KEY_NAME = DAY["key"]
# Texts that are no receipt and no day, and what is said of them as receipts.
MALFORMED: list[tuple[bytes, str]] = [
    (b"", "receipt: no JSON (JSONDecodeError)"),
    (b"\xff\xfe", "receipt: no JSON (UnicodeDecodeError)"),
    (b"\xef\xbb\xbf{}", "receipt: no JSON (JSONDecodeError)"),
    ("{}".encode("utf-16"), "receipt: no JSON (UnicodeDecodeError)"),
    (b"[" * 100_000, "receipt: no JSON (RecursionError)"),
    (b'{"a":' * 100_000, "receipt: no JSON (RecursionError)"),
    (b"9" * 5_000, "receipt: no JSON (ValueError)"),
    (b"null", "receipt is no object"),
    (b"[]", "receipt is no object"),
    (b'"text"', "receipt is no object"),
    (b"1.5", "receipt: 1.5 is no integer"),
    (b"1e400", "receipt: 1e400 is no integer"),
    (b"NaN", "receipt: NaN is no integer"),
    (b'{"a":-Infinity}', "receipt: -Infinity is no integer"),
    (b"{}", "receipt.version is missing"),
    (b'{"version":1,"version":1}', "receipt: 'version' stands twice in one object"),
    (b'{"x":{"\\ud800":1,"\\ud800":2}}', "receipt: '\\ud800' stands twice in one object"),
    (text({**RECEIPT, "note": "x"}), "receipt has 'note', which does not belong there"),
    (text({**RECEIPT, "\x1b[2J": "x"}), "receipt has '\\x1b[2J', which does not belong there"),
    (text({**RECEIPT, "block": None}), "receipt.block is no object"),
    (text({**RECEIPT, "version": True}), "receipt.version is not 1"),
    (text({**RECEIPT, "version": 2}), "receipt.version is not 1"),
    (text({**RECEIPT, "signature": RECEIPT["signature"].upper()}), "receipt.signature is no text like [0-9a-f]{128}"),
    (text({**RECEIPT, "public_key": " " * 64}), "receipt.public_key is no text like [0-9a-f]{64}"),
    (text({**RECEIPT, "public_key": "٣" * 64}), "receipt.public_key is no text like [0-9a-f]{64}"),
    (text({**RECEIPT, "proof": {"index": 0, "path": ["00"]}}), "receipt.proof.path[0] is no text like [0-9a-f]{64}"),
    (text({**RECEIPT, "proof": {"index": 0, "path": ["0" * 64] * 65}}), "receipt.proof.path is no list, or too long"),
    (
        text(changed(RECEIPT, ("block", "height"), 2**63)),
        "receipt.block.height is no integer from 1 to 9223372036854775807",
    ),
    (
        text(changed(RECEIPT, ("proof", "index"), -1)),
        "receipt.proof.index is no integer from 0 to 9223372036854775807",
    ),
    (
        text(changed(RECEIPT, ("transaction", "postings", 0, "amount"), 0)),
        "receipt.transaction.postings[0].amount is no integer from 1 to 9223372036854775807",
    ),
    (text(changed(RECEIPT, ("transaction", "cause", "rule"), 5)), "receipt.transaction.cause.'rule' is no text"),
    (
        json.dumps(changed(RECEIPT, ("transaction", "cause", "rule"), "\ud800")).encode(),
        "receipt.transaction.cause.'rule' is no text",
    ),
    (text(changed(RECEIPT, ("transaction", "final"), to=0)), "receipt.transaction.final is not False"),
    (text(changed(TRADED, ("transaction", "draws"), to={})), "receipt.transaction.draws is no list, or too long"),
    (
        text(changed(TRADED, ("transaction", "draws", 1, "final"), to=None)),
        "receipt.transaction.draws[1].final is neither true nor false",
    ),
    (
        text(changed(TRADED, ("transaction", "draws", 0, "amount"), to=1)),
        "receipt.transaction.draws[0] has 'amount', which does not belong there",
    ),
    (
        text(changed(TRADED, ("transaction", "draws", 0), to={"owner": "citizen:alice", "final": True})),
        "receipt.transaction.draws[0].id is missing",
    ),
]
