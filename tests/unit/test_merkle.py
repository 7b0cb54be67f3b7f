"""Merkle trees against the published vectors of Certificate Transparency, and every way a proof can be wrong."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.merkle import EMPTY_ROOT, HASH_BYTES, count, leaf_hash, path, root, verify

# Inputs and roots of the reference tests of Certificate Transparency (RFC 6962, IETF, 2013; the same tree in RFC 9162).
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = range(1, 71)


def tree(size: int) -> bytes:
    return b"".join(leaf_hash(b"entry %d" % number) for number in range(size))


def leaf_of(leaves: bytes, index: int) -> bytes:
    return leaves[index * HASH_BYTES : (index + 1) * HASH_BYTES]


def root_by_definition(hashes: list[bytes]) -> bytes:
    """Section 2.1.1, word by word: split at the largest power of two below the size."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return sha256(b"\x01" + root_by_definition(hashes[:split]) + root_by_definition(hashes[split:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference_tests(size: int) -> None:
    assert root(b"".join(map(leaf_hash, ENTRIES[:size]))).hex() == ROOTS[size]


def test_the_paths_of_the_seven_leaf_tree_are_those_the_rfc_draws() -> None:
    """RFC 9162, 2.1.5: the proofs of d0, d3, d4 and d6 by the names of the nodes in its drawing."""
    leaves = b"".join(map(leaf_hash, ENTRIES[:7]))
    a, b, c, d, e, f, j = (leaf_of(leaves, number) for number in range(7))
    node = {
        name: sha256(b"\x01" + left + right).digest() for name, left, right in (("g", a, b), ("h", c, d), ("i", e, f))
    }
    k = sha256(b"\x01" + node["g"] + node["h"]).digest()
    l_ = sha256(b"\x01" + node["i"] + j).digest()
    assert path(leaves, 0) == (b, node["h"], l_)
    assert path(leaves, 3) == (c, node["g"], l_)
    assert path(leaves, 4) == (f, j, k)
    assert path(leaves, 6) == (node["i"], k)


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_is_proven_and_the_root_is_the_definitions(size: int) -> None:
    leaves = tree(size)
    top = root(leaves)
    assert top == root_by_definition([leaf_of(leaves, index) for index in range(size)])
    for index in range(size):
        assert verify(leaf_of(leaves, index), index, size, path(leaves, index), top)


@pytest.mark.parametrize("size", SIZES)
def test_a_proof_holds_for_no_other_index(size: int) -> None:
    leaves = tree(size)
    top = root(leaves)
    for index in range(size):
        leaf, proof = leaf_of(leaves, index), path(leaves, index)
        held = [other for other in range(-1, size + 2) if verify(leaf, other, size, proof, top)]
        assert held == [index]


@given(st.data())
def test_a_changed_proof_fails(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, size - 1))
    leaves = tree(size)
    leaf, proof, top = leaf_of(leaves, index), path(leaves, index), root(leaves)
    bit = 1 << data.draw(st.integers(0, 7))
    place = data.draw(st.integers(0, HASH_BYTES - 1))

    def flipped(value: bytes) -> bytes:
        return value[:place] + bytes([value[place] ^ bit]) + value[place + 1 :]

    assert not verify(flipped(leaf), index, size, proof, top)
    assert not verify(leaf, index, size, proof, flipped(top))
    assert not verify(leaf, index, size, (*proof, top), top)
    if proof:
        number = data.draw(st.integers(0, len(proof) - 1))
        changed = (*proof[:number], flipped(proof[number]), *proof[number + 1 :])
        assert not verify(leaf, index, size, changed, top)
        assert not verify(leaf, index, size, proof[:number] + proof[number + 1 :], top)
    if len(proof) > 1:
        assert not verify(leaf, index, size, proof[::-1], top)


@given(st.integers(1, 70), st.integers(0, 200), st.data())
def test_a_proof_says_how_many_leaves_there_are_where_the_path_depends_on_it(
    size: int, claimed: int, data: st.DataObject
) -> None:
    """The RFC's own check binds the size as far as it shapes the path; the signed header binds it altogether."""
    index = data.draw(st.integers(0, size - 1))
    leaves = tree(size)
    held = verify(leaf_of(leaves, index), index, claimed, path(leaves, index), root(leaves))
    assert held is (claimed > index and directions(index, claimed) == directions(index, size))


def directions(index: int, size: int) -> list[bool]:
    """On which side the sibling stands on each level where there is one, from the definition."""
    if size == 1:
        return []
    split = 1
    while split * 2 < size:
        split *= 2
    if index < split:
        return [*directions(index, split), False]
    return [*directions(index - split, size - split), True]


def test_a_leaf_is_no_node_and_a_node_no_leaf() -> None:
    leaves = tree(2)
    assert root(leaves) != leaf_hash(leaves)
    assert not verify(leaf_hash(leaves), 0, 1, (), root(leaves))


def test_no_entries_and_broken_lengths() -> None:
    assert root(b"") == EMPTY_ROOT == sha256(b"").digest()
    assert count(b"") == 0
    for call in (root, count, lambda leaves: path(leaves, 0)):
        with pytest.raises(ValueError, match="33 bytes are no whole number of 32-byte hashes"):
            call(b"x" * 33)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"no leaf {index} among 3"):
            path(tree(3), index)
    assert not verify(EMPTY_ROOT, 0, 0, (), EMPTY_ROOT)
