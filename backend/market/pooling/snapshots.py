"""What pooling reads at one instant: for hashes, evidence packs and the audit, which names what it cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from backend.actions.documents import ACTIONS, action_from_document
from backend.ledger.documents import TRANSACTIONS
from backend.ledger.model import TransactionKind as Kind
from backend.market.pooling.collections import BATCHES, CONSENTS, CONTRIBUTIONS, POOLED_ACTS
from backend.market.pooling.documents import (
    batch_from_document,
    consent_from_document,
    contribution_from_document,
    pooled_act_from_document,
)
from backend.market.pooling.store import GIVEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from backend.actions.model import Action
    from backend.kernel.ids import ActionId, CitizenId
    from backend.market.pooling.model import Batch, BatchCode, Consent, Contribution, PooledAct
    from backend.mongo.client import Document, Snapshot

Read = TypeVar("Read")
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


async def _read(
    documents: AsyncIterator[Document],
    codec: Callable[[Mapping[str, Any]], Read],
    what: str,
    on_broken: Callable[[str, Exception], None] | None,
) -> AsyncIterator[Read]:
    """The documents as what they stand for; those that cannot be read are told to ``on_broken``, or end it."""
    async for document in documents:
        try:
            found = codec(document)
        except UNREADABLE as error:
            if on_broken is None:
                raise
            on_broken(f"{what} {document['_id']}", error)
        else:
            yield found


async def stream_acts(
    snapshot: Snapshot,
    batch: BatchCode,
    citizens: Sequence[CitizenId] | None = None,
    on_broken: Callable[[str, Exception], None] | None = None,
) -> AsyncIterator[PooledAct]:
    """The acts of a batch, or of some of its contributors, by citizen and number."""
    query: dict[str, Any] = {"batch": batch}
    if citizens is not None:
        query["citizen"] = {"$in": list(citizens)}
    stored = snapshot.stream(POOLED_ACTS.name, query, sort=[("batch", 1), ("citizen", 1), ("number", 1)])
    async for act in _read(stored, pooled_act_from_document, "pooled act", on_broken):
        yield act


async def stream_contributions(
    snapshot: Snapshot,
    batch: BatchCode,
    *,
    given: bool = False,
    on_broken: Callable[[str, Exception], None] | None = None,
) -> AsyncIterator[Contribution]:
    """Every contribution of a batch, by citizen, or those that stand."""
    query = {"batch": batch, **(GIVEN if given else {})}
    stored = snapshot.stream(CONTRIBUTIONS.name, query, sort=[("citizen", 1)])
    async for contribution in _read(stored, contribution_from_document, "contribution", on_broken):
        yield contribution


async def stream_by_citizen(
    snapshot: Snapshot, on_broken: Callable[[str, Exception], None]
) -> AsyncIterator[Contribution]:
    """Every contribution that stands, by citizen and vintage."""
    stored = snapshot.stream(CONTRIBUTIONS.name, GIVEN, sort=[("citizen", 1), ("vintage", 1)])
    async for contribution in _read(stored, contribution_from_document, "contribution", on_broken):
        yield contribution


async def find_consents_in(
    snapshot: Snapshot, citizens: Sequence[CitizenId], on_broken: Callable[[str, Exception], None]
) -> dict[CitizenId, list[Consent]]:
    """Every version of these citizens' authorisations."""
    found: dict[CitizenId, list[Consent]] = {}
    stored = snapshot.stream(CONSENTS.name, {"citizen": {"$in": list(citizens)}})
    async for consent in _read(stored, consent_from_document, "consent", on_broken):
        found.setdefault(consent.citizen, []).append(consent)
    return found


async def stream_booked(snapshot: Snapshot) -> AsyncIterator[Document]:
    """Every transaction of the book that moved quantified grams for a batch."""
    kinds = [Kind.POOL.value, Kind.REVERSE.value, Kind.DEDUCT.value, Kind.ISSUE.value]
    query = {"cause.batch": {"$type": "string"}, "kind": {"$in": kinds}, "copy_of": None}
    async for document in snapshot.stream(TRANSACTIONS.name, query, fields=["kind", "cause", "postings"]):
        yield document


async def find_actions_in(
    snapshot: Snapshot, actions: Sequence[ActionId], on_broken: Callable[[str, Exception], None]
) -> dict[ActionId, Action]:
    """Those of the actions that are recorded."""
    stored = snapshot.stream(ACTIONS.name, {"_id": {"$in": list(actions)}})
    return {action.id: action async for action in _read(stored, action_from_document, "action", on_broken)}


async def find_batch_in(snapshot: Snapshot, code: str) -> Batch | None:
    """The batch of that code at the snapshot's instant."""
    found = await snapshot.find_one(BATCHES.name, {"_id": code})
    return batch_from_document(found) if found else None


async def stream_batches(
    snapshot: Snapshot, on_broken: Callable[[str, Exception], None] | None = None
) -> AsyncIterator[Batch]:
    """Every batch, by code."""
    stored = snapshot.stream(BATCHES.name, {}, sort=[("_id", 1)])
    async for batch in _read(stored, batch_from_document, "batch", on_broken):
        yield batch
