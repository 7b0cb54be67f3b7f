"""SHA-256 Merkle trees exactly as RFC 9162 (Certificate Transparency 2.0, IETF, 2021), section 2.1; knows no ledger.

Leaf hashes are passed as one byte string, 32 bytes each in the order of the leaves: that is how they are stored.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
# Section 2.1.1: without different first bytes an inner node could be passed off as a leaf.
LEAF_PREFIX = b"\x00"
NODE_PREFIX = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """The hash that stands for an entry: 32 bytes."""
    return sha256(LEAF_PREFIX + entry).digest()


def count(leaves: bytes) -> int:
    """How many leaf hashes the byte string holds.

    Raises:
        ValueError: it is no whole number of hashes.
    """
    size, rest = divmod(len(leaves), HASH_BYTES)
    if rest:
        message = f"{len(leaves)} bytes are no whole number of {HASH_BYTES}-byte hashes"
        raise ValueError(message)
    return size


def root(leaves: bytes) -> bytes:
    """The tree's root, 32 bytes; of no leaves, the hash of nothing.

    Raises:
        ValueError: no whole number of hashes.
    """
    if not count(leaves):
        return EMPTY_ROOT
    *_, top = _levels(leaves)
    return top


def path(leaves: bytes, index: int) -> tuple[bytes, ...]:
    """The inclusion proof of the leaf at ``index``: the siblings on its way to the root, lowest first.

    Raises:
        IndexError: the tree has no such leaf.
        ValueError: no whole number of hashes.
    """
    if not 0 <= index < count(leaves):
        message = f"no leaf {index} among {count(leaves)}"
        raise IndexError(message)
    siblings = []
    for level in _levels(leaves):
        place = (index ^ 1) * HASH_BYTES
        # The last node of an odd level has no sibling and rises as it is; so does the root.
        if place < len(level):
            siblings.append(level[place : place + HASH_BYTES])
        index >>= 1
    return tuple(siblings)


def _levels(leaves: bytes) -> Iterator[bytes]:
    """The levels of the tree, from the leaves to the root alone.

    Pairing neighbours and letting an odd last one rise gives the same tree as the RFC's split at a power of two.
    """
    level = leaves
    yield level
    pair = 2 * HASH_BYTES
    while len(level) > HASH_BYTES:
        nodes = [
            sha256(NODE_PREFIX + level[start : start + pair]).digest()
            for start in range(0, len(level) - HASH_BYTES, pair)
        ]
        if len(level) % pair:
            nodes.append(level[-HASH_BYTES:])
        level = b"".join(nodes)
        yield level


def verify(leaf: bytes, index: int, size: int, siblings: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether the path proves that ``leaf`` is number ``index`` of ``size`` leaves under the root (2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, result = index, size - 1, leaf
    for sibling in siblings:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = sha256(NODE_PREFIX + sibling + result).digest()
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = sha256(NODE_PREFIX + result + sibling).digest()
        node >>= 1
        last >>= 1
    return last == 0 and result == expected_root
