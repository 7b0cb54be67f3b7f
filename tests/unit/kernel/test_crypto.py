"""Canonical bytes, keyed hashes, and key files that several starters make only once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.crypto import canonical_json, keyed_hash, load_lookup_key, load_signing_key, payload_hash

if TYPE_CHECKING:
    from pathlib import Path

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
STARTERS = 16


def _reversed(value: Any) -> Any:
    """The same value with every object's members in the opposite order."""
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


@given(value=VALUES)
def test_the_order_of_members_does_not_change_the_bytes(value: Any) -> None:
    assert canonical_json(value) == canonical_json(_reversed(value))
    assert orjson.loads(canonical_json(value)) == value


@given(one=VALUES, other=VALUES)
def test_different_values_have_different_hashes(one: Any, other: Any) -> None:
    if canonical_json(one) != canonical_json(other):
        assert payload_hash(one) != payload_hash(other)


def test_canonical_bytes_are_the_same_for_ever() -> None:
    east = timezone(timedelta(hours=8))
    moment = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
    assert canonical_json({"b": "碳", "a": [1, None, True]}) == '{"a":[1,null,true],"b":"碳"}'.encode()
    assert canonical_json(moment) == b'"2026-11-02T09:00:00Z"'
    assert canonical_json(moment.astimezone(east)) == b'"2026-11-02T17:00:00+08:00"'
    assert payload_hash([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


@given(one=st.lists(st.text(max_size=6), max_size=4), other=st.lists(st.text(max_size=6), max_size=4))
def test_a_keyed_hash_keeps_its_parts_apart(one: list[str], other: list[str]) -> None:
    assert (keyed_hash(b"key", *one) == keyed_hash(b"key", *other)) == (one == other)


def test_another_key_gives_another_hash() -> None:
    assert keyed_hash(b"one", "metro", "123") != keyed_hash(b"two", "metro", "123")


def test_starters_that_race_read_one_key_from_one_private_file(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "lookup.key"
    together = Barrier(STARTERS)

    def start(_: int) -> bytes:
        together.wait()
        return load_lookup_key(path)

    with ThreadPoolExecutor(STARTERS) as pool:
        keys = set(pool.map(start, range(STARTERS)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_the_signing_key_is_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens.pem"
    made, read = (load_signing_key(path).private_bytes_raw() for _ in range(2))
    assert made == read
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_with_another_sort_of_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.pem"
    path.write_bytes(
        x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ValueError, match="does not hold an Ed25519 private key"):
        load_signing_key(path)
