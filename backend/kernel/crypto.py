"""Keys, digests and ciphers: canonical bytes, hashes, key files, secrets at rest. No database or network."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NONCE_BYTES = 12


def canonical_json(value: object) -> bytes:
    """One byte string per value: sorted keys, UTF-8, no white space, times in UTC with ``Z``."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)


def payload_hash(value: object) -> str:
    """SHA-256 of the canonical JSON, hex: tells a replay from another request under the same key."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def keyed_hash(key: bytes, *parts: str) -> str:
    """HMAC-SHA256 over length-prefixed parts, hex: finds a personal identifier without storing it."""
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        raw = part.encode()
        mac.update(len(raw).to_bytes(4, "big") + raw)
    return mac.hexdigest()


def encrypt(key: bytes, plain: bytes, context: str) -> str:
    """AES-256-GCM under a random nonce, base64 of nonce and cipher text; to be read in the same context only."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, plain, context.encode())).decode()


def decrypt(key: bytes, sealed: str, context: str) -> bytes:
    """What ``encrypt`` was given.

    Raises:
        ValueError: it was made with another key or in another context, or was changed.
    """
    raw = base64.b64decode(sealed, validate=True)
    try:
        return AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], context.encode())
    except InvalidTag as error:
        raise ValueError("not encrypted under this key in this context") from error


def _read_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """The file's bytes; where it is missing, made once, mode 0600, even when several processes start together."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(make())
        try:
            # link() refuses an existing name, so of several starters exactly one file wins and all read that one.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 private key in PEM at ``path``, made on first use.

    Raises:
        ValueError: the file holds something else.
    """
    raw = _read_or_create(
        path,
        lambda: Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    key = serialization.load_pem_private_key(raw, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        message = f"{path} does not hold an Ed25519 private key"
        raise ValueError(message)  # noqa: TRY004 - the file's value is wrong, not an argument's type
    return key


def load_lookup_key(path: Path) -> bytes:
    """The 32-byte key of ``keyed_hash`` or ``encrypt`` at ``path``, made on first use."""
    return _read_or_create(path, lambda: secrets.token_bytes(32))
