"""Checks a Tanhui receipt against the roots its programme published, without trusting Tanhui's own software.

    python verify_receipt.py receipt.json roots.json
    python verify_receipt.py receipt.json https://programme.example/.well-known/tanhui/roots/

The second argument is the published day on which the receipt was sealed, or the list of days: best a copy that somebody
else kept. Needs Python 3.11 and the package cryptography. The format: receipts.md.
"""
# ruff: noqa: INP001, PLR2004, S310, T201

import json
import re
import sys
from hashlib import sha256
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def plain(text: str) -> str:
    """The text without anything that moves the cursor or hides what follows: documents are not to be trusted yet."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)


def check(what: str, *, holds: bool) -> None:
    """Print the outcome; end where it does not hold."""
    print("ok  " if holds else "FAIL", plain(what))
    if not holds:
        sys.exit(1)


def read(where: str) -> dict:
    """The document in a file or at an address: strict JSON, integers only, and no name twice in an object."""

    def once(pairs: list) -> dict:
        if len(found := dict(pairs)) != len(pairs):
            raise ValueError("a name stands twice in one object")
        return found

    is_web = where.startswith(("https://", "http://"))
    text = urlopen(where, timeout=20).read() if is_web else Path(where).read_bytes()
    return json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_float=int, parse_constant=int)


def canonical(tag: str, value: object) -> bytes:
    """The bytes that are hashed and signed: a line that says what they are, then JSON without any freedom."""
    return tag.encode() + b"\n" + json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def unhex(text: str, size: int) -> bytes:
    """Exactly that many bytes in lower-case hexadecimal."""
    if not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text):
        raise ValueError(f"{text!r} is not {size} bytes in hexadecimal")
    return bytes.fromhex(text)


def is_signed(message: bytes, signature: str, key: str) -> bool:
    """Ed25519 (RFC 8032)."""
    try:
        return Ed25519PublicKey.from_public_bytes(unhex(key, 32)).verify(unhex(signature, 64), message) is None
    except InvalidSignature:
        return False


def root_from_path(leaf: bytes, index: int, size: int, path: list) -> bytes | None:
    """The root that an inclusion proof leads to (RFC 9162, section 2.1.3.2); None where the path does not fit."""
    node, last, result = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            result = sha256(b"\x01" + unhex(sibling, 32) + result).digest()
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = sha256(b"\x01" + result + unhex(sibling, 32)).digest()
        node, last = node >> 1, last >> 1
    return result if last == 0 and 0 <= index < size and type(index) is int else None


def main(receipt_path: str, roots: str) -> None:
    """Check the receipt by itself, then that its block was published, then what was published."""
    receipt = read(receipt_path)
    transaction, block, proof = receipt["transaction"], receipt["block"], receipt["proof"]
    key, signature = receipt["public_key"], receipt["signature"]
    is_named = bool(re.fullmatch("tx_[0-9a-f]{32}", transaction["id"]))
    form = (len(receipt), len(proof), repr(receipt["version"]), type(proof["path"]), is_named)
    check("it is a receipt of version 1", holds=form == (6, 2, "1", list, True))
    leaf = sha256(b"\x00" + canonical("tanhui-transaction-1", transaction)).digest()
    root = root_from_path(leaf, proof["index"], block["size"], proof["path"])
    check(f"transaction {transaction['id']} is in block {block['height']}", holds=root == unhex(block["root"], 32))
    check(f"{block['key']} is the name of its key", holds=sha256(unhex(key, 32)).hexdigest()[:16] == block["key"])
    check("the block is signed with it", holds=is_signed(canonical("tanhui-block-1", block), signature, key))
    day = read(roots)
    dates = [one["date"] for one in day.get("days", ()) if one["first"] <= block["height"] <= one["last"]]
    if dates and re.fullmatch(r"\d{4}-\d{2}-\d{2}", dates[0]):  # it is the list of days
        day = read(urljoin(roots, f"{dates[0]}.json"))
    signed = canonical("tanhui-day-1", {name: value for name, value in day.items() if name != "signature"})
    check(f"the roots of {day['date']} are signed", holds=is_signed(signed, day["signature"], day["keys"][day["key"]]))
    check("they list the block's key", holds=day["keys"].get(block["key"]) == key)
    check("they contain this very block", holds={"header": block, "signature": signature} in day["blocks"])
    print(*map(plain, json.dumps(transaction, indent=2, ensure_ascii=False).split("\n")), sep="\n")
    print("everything holds" if day["final"] else "everything holds; when it was published, the day was not over yet")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main(sys.argv[1], sys.argv[2])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OSError, RecursionError) as error:
        check(f"the documents can be read: {error!r}", holds=False)
