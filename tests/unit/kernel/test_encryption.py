"""Secrets at rest: read only with their key, in their context, unchanged."""

from __future__ import annotations

import base64

import pytest

from backend.kernel.crypto import decrypt, encrypt

KEY = bytes(range(32))


def test_what_was_encrypted_is_read_again() -> None:
    sealed = [encrypt(KEY, b"secret", "whe_1") for _ in range(2)]
    assert sealed[0] != sealed[1]
    assert [decrypt(KEY, text, "whe_1") for text in sealed] == [b"secret"] * 2
    assert b"secret" not in base64.b64decode(sealed[0])


def test_another_key_another_context_or_any_change_is_refused() -> None:
    sealed = encrypt(KEY, b"secret", "whe_1")
    raw = base64.b64decode(sealed)
    changed = [base64.b64encode(raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :]).decode() for i in range(len(raw))]
    tries = [(KEY[::-1], sealed, "whe_1"), (KEY, sealed, "whe_2"), *((KEY, text, "whe_1") for text in changed)]
    for key, text, context in [*tries, (KEY, "", "whe_1"), (KEY, "no base64", "whe_1"), (KEY, sealed[:8], "whe_1")]:
        with pytest.raises(ValueError, match=r"."):
            decrypt(key, text, context)
