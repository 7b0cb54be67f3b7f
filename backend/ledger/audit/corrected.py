"""Corrections: each names a transaction that is there, takes back no more than is left of it, and the lots it had."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backend.ledger import corrections
from backend.ledger.audit.findings import shown
from backend.ledger.audit.store import find_copies, find_corrections, find_homes
from backend.ledger.documents import standing_of, transaction_from_document

if TYPE_CHECKING:
    from backend.mongo.client import Document, Snapshot


async def correction_problem(snapshot: Snapshot, document: Document) -> str | None:
    """What is wrong with the correction told by this home document, with those before it taken into account."""
    correction = transaction_from_document(document)
    corrected = str(correction.corrects)
    home = (await find_homes(snapshot, [corrected])).get(corrected)
    if home is None:
        return f"corrects {corrected}, which is not in the book"
    owners = transaction_from_document(home).owners
    earlier = _earlier(document, await find_corrections(snapshot, corrected, owners))
    standing = standing_of([home, *await find_copies(snapshot, corrected, owners)], earlier)
    # Raises what the book would have refused it with.
    allowed = corrections.prepare(dataclasses.replace(correction, lots={}), standing)
    if allowed.lots != correction.lots:
        return f"lots are {shown(correction.lots)}, those it corrects give {shown(allowed.lots)}"
    return None


def _earlier(document: Document, found: list[Document]) -> list[Document]:
    """The corrections that came before: they have a lower number on a page that both touch."""
    parts: dict[str, list[Document]] = {}
    for part in found:
        parts.setdefault(part["copy_of"] or part["_id"], []).append(part)
    own = {part["owner"]: part["sequence"] for part in parts.pop(document["_id"], [])}
    return [
        others[0]
        for others in parts.values()
        if any(part["owner"] in own and part["sequence"] < own[part["owner"]] for part in others)
    ]
