"""Verifies a receipt from its text alone, with or without the published day: what holds, what fails, and where.

Pure: no server, no clock, no key of ours. Whatever is handed in, the answer is a verdict, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backend.kernel import merkle
from backend.ledger.sealing.canonical import BLOCK_TAG, LEAF_TAG, canonical_bytes, day_bytes, key_id
from backend.ledger.sealing.forms import DAY, DAYS, RECEIPT, SHOWN, MalformedError, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Check(StrEnum):
    """What is asked of a receipt and of the day it was published in; the value says it in words."""

    RECEIPT_FORM = "the receipt has the form of a receipt"
    LEAF = "the transaction is in the block"
    KEY = "the block names the key in the receipt"
    SIGNATURE = "the block is signed with that key"
    DAY_FORM = "the published day has the form of one"
    DAY_KEYS = "the day's keys are what they are called"
    DAY_SIGNATURE = "the day is signed with a key it lists"
    DAY_CHAIN = "the day's blocks follow each other without a gap"
    DAY_ROOT = "the day's root is that of its blocks"
    KEY_PUBLISHED = "the day lists the key in the receipt"
    BLOCK_PUBLISHED = "the day contains this very block"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; ``place`` says where in the document it failed, and why."""

    check: Check
    holds: bool
    place: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks made, in order; transaction and height where readable, ``is_final`` where a day was given."""

    findings: tuple[Finding, ...]
    transaction: str | None = None
    height: int | None = None
    is_final: bool | None = None

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(finding.holds for finding in self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The checks that fail."""
        return tuple(finding for finding in self.findings if not finding.holds)


def verify(receipt: bytes, day: bytes | None = None) -> Verdict:
    """Check a receipt's text; with the text of a published day also that its block stands there."""
    try:
        read = read_document(receipt, RECEIPT, "receipt")
    except MalformedError as error:
        return Verdict((Finding(Check.RECEIPT_FORM, holds=False, place=str(error)),))
    findings = [Finding(Check.RECEIPT_FORM, holds=True), *_receipt_findings(read)]
    is_final = None
    if day is not None:
        try:
            published = read_document(day, DAY, "day")
        except MalformedError as error:
            findings.append(Finding(Check.DAY_FORM, holds=False, place=str(error)))
        else:
            is_final = published["final"]
            findings += [Finding(Check.DAY_FORM, holds=True), *_day_findings(published), *_published(read, published)]
    return Verdict(tuple(findings), read["transaction"]["id"], read["block"]["height"], is_final)


def verify_day(day: bytes) -> Verdict:
    """Check a published day by itself."""
    try:
        published = read_document(day, DAY, "day")
    except MalformedError as error:
        return Verdict((Finding(Check.DAY_FORM, holds=False, place=str(error)),))
    findings = (Finding(Check.DAY_FORM, holds=True), *_day_findings(published))
    return Verdict(findings, is_final=published["final"])


def find_date(days: bytes, height: int) -> str | None:
    """From the published list of days, the date of the document that has the block of that height.

    Raises:
        MalformedError: the text is no list of days.
    """
    listed = read_document(days, DAYS, "days")["days"]
    return next((day["date"] for day in listed if day["first"] <= height <= day["last"]), None)


def _finding(check: Check, problem: str | None) -> Finding:
    return Finding(check, problem is None, problem or "")


def _receipt_findings(receipt: Mapping[str, Any]) -> Iterator[Finding]:
    block, proof = receipt["block"], receipt["proof"]
    leaf = merkle.leaf_hash(LEAF_TAG + canonical_bytes(receipt["transaction"]))
    siblings = [bytes.fromhex(text) for text in proof["path"]]
    proven = merkle.verify(leaf, proof["index"], block["size"], siblings, bytes.fromhex(block["root"]))
    yield _finding(Check.LEAF, None if proven else "transaction, proof, block.size or block.root was changed")
    named = key_id(bytes.fromhex(receipt["public_key"])) == block["key"]
    yield _finding(Check.KEY, None if named else "block.key is not the name of public_key")
    yield _finding(
        Check.SIGNATURE,
        None
        if is_signed(BLOCK_TAG + canonical_bytes(block), receipt["signature"], receipt["public_key"])
        else "block, signature or public_key was changed",
    )


def _day_findings(day: Mapping[str, Any]) -> Iterator[Finding]:
    keys = day["keys"]
    misnamed = [name for name, key in keys.items() if key_id(bytes.fromhex(key)) != name]
    yield _finding(Check.DAY_KEYS, f"keys.{misnamed[0]} is the name of another key" if misnamed else None)
    yield _finding(Check.DAY_SIGNATURE, _wrong_signature(day))
    hashes = [sha256(BLOCK_TAG + canonical_bytes(block["header"])).digest() for block in day["blocks"]]
    yield _finding(Check.DAY_CHAIN, next(_broken_links(day, hashes), None))
    root = merkle.root(b"".join(map(merkle.leaf_hash, hashes))).hex()
    yield _finding(Check.DAY_ROOT, None if root == day["root"] else "root is not that of blocks")


def _wrong_signature(day: Mapping[str, Any]) -> str | None:
    """Why the day's signature does not hold; where it does not, the blocks' own signatures show which were changed."""
    key = day["keys"].get(day["key"])
    if key is None:
        return "key is not among keys"
    if is_signed(day_bytes(day), day["signature"], key):
        return None
    for number, block in enumerate(day["blocks"]):
        signer = day["keys"].get(block["header"]["key"])
        signed = BLOCK_TAG + canonical_bytes(block["header"])
        if signer is None or not is_signed(signed, block["signature"], signer):
            return f"blocks[{number}] (height {block['header']['height']}) was changed"
    return "something in the day was changed; each of its blocks by itself is signed"


def _broken_links(day: Mapping[str, Any], hashes: list[bytes]) -> Iterator[str]:
    """Blocks that do not follow the one before them."""
    headers = [block["header"] for block in day["blocks"]]
    for number, header in enumerate(headers):
        place = f"blocks[{number}] (height {header['height']})"
        if header["programme"] != day["programme"]:
            yield f"{place} is of programme {ascii(header['programme'])[:SHOWN]}"
        if header["key"] not in day["keys"]:
            yield f"{place} is signed with a key that keys does not list"
        if not number:
            continue
        before = headers[number - 1]
        if header["height"] != before["height"] + 1:
            yield f"{place} does not follow height {before['height']}"
        if header["previous"] != hashes[number - 1].hex():
            yield f"{place} names another previous block"
        if header["sealed_at"] < before["sealed_at"]:
            yield f"{place} is older than the block before it"


def _published(receipt: Mapping[str, Any], day: Mapping[str, Any]) -> Iterator[Finding]:
    block = receipt["block"]
    listed = day["keys"].get(block["key"])
    key_problem = None if listed == receipt["public_key"] else f"key {block['key']} is not listed, or is another one"
    yield _finding(Check.KEY_PUBLISHED, key_problem)
    found = [entry for entry in day["blocks"] if entry["header"]["height"] == block["height"]]
    if not found:
        problem: str | None = f"no block {block['height']} on {day['date']}"
    elif found[0]["header"] != block:
        names = sorted(name for name in block if found[0]["header"][name] != block[name])
        problem = f"block {block['height']} was published with another {', '.join(names)}"
    elif found[0]["signature"] != receipt["signature"]:
        problem = f"block {block['height']} was published with another signature"
    else:
        problem = None
    yield _finding(Check.BLOCK_PUBLISHED, problem)


def is_signed(signed: bytes, signature: str, public_key: str) -> bool:
    """Whether the Ed25519 signature over the bytes holds; both in hex, and never an exception."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), signed)
    except (InvalidSignature, ValueError):
        return False
    return True
