"""Checks stored blocks and leaves one by one: for the sealer before it goes on, and for the auditor. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from backend.kernel import merkle
from backend.ledger.sealing.canonical import block_hash, header_bytes, key_id
from backend.ledger.sealing.model import NO_BLOCK
from backend.ledger.sealing.receipts import is_signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backend.ledger.sealing.model import Block

ID_BYTES = 16


def block_problems(block: Block, previous: Block | None) -> Iterator[str]:
    """What is wrong with a block by itself; and as successor of ``previous``, where that one is known."""
    header = block.header
    if block_hash(header).hex() != block.hash:
        yield "its hash is not that of its header"
    if key_id(bytes.fromhex(block.public_key)) != header.key:
        yield f"key {header.key} is the name of another key"
    if not is_signed(header_bytes(header), block.signature, block.public_key):
        yield "its signature does not hold"
    if header.height == 1 and header.previous != NO_BLOCK:
        yield "the first block names a previous one"
    if previous is None:
        return
    if header.height != previous.header.height + 1:
        yield f"it does not follow height {previous.header.height}"
    if header.previous != previous.hash:
        yield "it names another previous block"
    if header.sealed_at < previous.header.sealed_at or block.day < previous.day:
        yield "it is older than the block before it"
    if header.programme != previous.header.programme:
        yield f"it is of programme {header.programme}"


def leaf_problems(block: Block, transactions: Sequence[bytes], leaves: bytes) -> Iterator[str]:
    """What is wrong with the leaves stored for a block: their number, their order, their root."""
    size = block.header.size
    if len(transactions) != size or len(leaves) != size * merkle.HASH_BYTES:
        yield f"{len(transactions)} transactions and {len(leaves)} bytes of leaves for a size of {size}"
    elif merkle.root(leaves).hex() != block.header.root:
        yield "the root of its leaves is not its root"
    if any(len(transaction) != ID_BYTES for transaction in transactions):
        yield "a transaction's id is not of 16 bytes"
    if any(left >= right for left, right in pairwise(transactions)):
        yield "its transactions are not in the order of their ids"
