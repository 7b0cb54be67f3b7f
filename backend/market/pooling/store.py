"""Every query on consents, batches, contributions and pooled acts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from bson import Int64
from pymongo import DeleteOne, UpdateOne

from backend.actions.model import RuleRef
from backend.kernel.ids import ActionId, CitizenId
from backend.market.pooling.collections import BATCHES, CONSENTS, CONTRIBUTIONS, POOLED_ACTS
from backend.market.pooling.documents import (
    batch_from_document,
    batch_to_document,
    consent_from_document,
    consent_to_document,
    contribution_from_document,
    contribution_to_document,
    pooled_act_from_document,
    pooled_act_to_document,
)
from backend.market.pooling.model import (
    WORKED_ON,
    BatchCode,
    BatchStage,
    ContributionStage,
    contribution_id,
)
from backend.market.serials.model import SerialRange
from backend.mongo.idempotency import KeyedWrites
from backend.mongo.paging import page_by_moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from datetime import datetime

    from backend.market.pooling.model import Batch, Consent, Contribution, PooledAct
    from backend.mongo.client import Database
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Tx
    from backend.rules.model import Category

GIVEN = {"stage": ContributionStage.GIVEN.value}
# So many contributions are read at once.
AT_ONCE = 200
SHARES = ("pool", "own")


async def find_bound(tx: Tx, actions: Sequence[ActionId]) -> frozenset[ActionId]:
    """Those of the actions that are in a batch: their amounts stand as they are."""
    found = await tx.find(POOLED_ACTS.name, {"_id": {"$in": list(actions)}}, ["_id"])
    return frozenset(ActionId(document["_id"]) for document in found)


class PoolingReads:
    """Consents, batches and what is in them, as committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_consent(self, citizen: CitizenId) -> Consent | None:
        """The citizen's authorisation in force."""
        found = await self._database.find_one(CONSENTS.name, {"citizen": citizen, "current": True})
        return consent_from_document(found) if found else None

    async def list_consents(
        self, citizen: CitizenId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Consent]:
        """Every version of the citizen's authorisation, newest first."""
        found = await page_by_moment(
            self._database,
            CONSENTS.name,
            {"citizen": citizen},
            moment="since",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [consent_from_document(document) for document in found]

    async def list_consenting(self, scenario: Category, after: str, *, limit: int) -> list[CitizenId]:
        """The next citizens whose authorisation in force covers the scenario, by id."""
        query = {
            "citizen": {"$gt": after},
            "current": True,
            "$or": [{"scenarios": None}, {"scenarios": scenario.value}],
        }
        found = await self._database.find(CONSENTS.name, query, limit=limit, sort=[("citizen", 1)], fields=["citizen"])
        return [CitizenId(document["citizen"]) for document in found]

    async def find_batch(self, code: str) -> Batch | None:
        """The batch of that code."""
        found = await self._database.find_one(BATCHES.name, {"_id": code})
        return batch_from_document(found) if found else None

    async def find_batches(self, codes: Iterable[BatchCode]) -> dict[BatchCode, Batch]:
        """Those of the batches that exist."""
        wanted = sorted(set(codes))
        found = await self._database.find(BATCHES.name, {"_id": {"$in": wanted}}, limit=len(wanted) or 1)
        return {batch.code: batch for batch in map(batch_from_document, found)}

    async def list_waiting(self, after: BatchCode | None, *, limit: int) -> list[BatchCode]:
        """The next batches that wait for a worker, by code."""
        query: dict[str, Any] = {"stage": {"$in": [stage.value for stage in WORKED_ON]}}
        if after is not None:
            query["_id"] = {"$gt": after}
        found = await self._database.find(BATCHES.name, query, limit=limit, sort=[("_id", 1)], fields=["_id"])
        return [BatchCode(document["_id"]) for document in found]

    async def list_batches(
        self, stage: BatchStage | None, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Batch]:
        """Batches in that stage or in any, the one opened last first."""
        query = {"stage": stage.value} if stage else {}
        return await self._page(query, "opened_at", limit, older, newer, newest=newest)

    async def list_issued(self, *, limit: int, older: Place | None, newer: Place | None, newest: bool) -> list[Batch]:
        """Issued batches, the last first."""
        query = {"stage": BatchStage.ISSUED.value}
        return await self._page(query, "issue.issued_at", limit, older, newer, newest=newest)

    async def _page(
        self,
        query: Mapping[str, Any],
        moment: str,
        limit: int,
        older: Place | None,
        newer: Place | None,
        *,
        newest: bool,
    ) -> list[Batch]:
        found = await page_by_moment(
            self._database, BATCHES.name, query, moment=moment, limit=limit, older=older, newer=newer, newest=newest
        )
        return [batch_from_document(document) for document in found]

    async def list_contributions(
        self, citizen: CitizenId, *, limit: int, older: Place | None, newer: Place | None, newest: bool
    ) -> list[Contribution]:
        """What the citizen gave to batches, newest first."""
        found = await page_by_moment(
            self._database,
            CONTRIBUTIONS.name,
            {"citizen": citizen},
            moment="given_at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [contribution_from_document(document) for document in found]

    async def has_given(self, batch: BatchCode, citizen: CitizenId) -> bool:
        """Whether something of the citizen's is in the batch."""
        query = {"_id": contribution_id(batch, citizen), **GIVEN}
        return await self._database.find_one(CONTRIBUTIONS.name, query) is not None

    async def list_given(self, batch: BatchCode, after: str, *, limit: int) -> list[Contribution]:
        """The next contributions that stand, by citizen id."""
        query = {"batch": batch, "citizen": {"$gt": after}, **GIVEN}
        found = await self._database.find(CONTRIBUTIONS.name, query, limit=limit, sort=[("citizen", 1)])
        return [contribution_from_document(document) for document in found]

    async def stream_given(self, batch: BatchCode, after: str = "") -> AsyncIterator[Contribution]:
        """Contributions that stand, by citizen id, some at a time."""
        while found := await self.list_given(batch, after, limit=AT_ONCE):
            for contribution in found:
                yield contribution
            after = found[-1].citizen

    async def stream_behind(self, batch: BatchCode, ranges: Sequence[SerialRange]) -> AsyncIterator[list[Contribution]]:
        """Contributions for which some of the serials were issued, each once, some at a time."""
        seen = set[CitizenId]()
        for run in ranges:
            for share in SHARES:
                before = await self._share_at(batch, share, run.first)
                first = before.first if before else run.first
                while first <= run.last:
                    query = {
                        "batch": batch,
                        f"{share}.first": {"$type": "long", "$gte": Int64(first), "$lte": Int64(run.last)},
                    }
                    stored = await self._database.find(
                        CONTRIBUTIONS.name, query, limit=AT_ONCE, sort=[(f"{share}.first", 1)]
                    )
                    found = [contribution_from_document(document) for document in stored]
                    fresh = [one for one in found if one.citizen not in seen]
                    seen.update(one.citizen for one in fresh)
                    if fresh:
                        yield fresh
                    first = int(stored[-1][share]["last"]) + 1 if len(stored) == AT_ONCE else run.last + 1

    async def _share_at(self, batch: BatchCode, share: str, serial: int) -> SerialRange | None:
        """The serials, that one among them, which were issued together as such a share."""
        query = {"batch": batch, f"{share}.first": {"$type": "long", "$lte": Int64(serial)}}
        found = await self._database.find(CONTRIBUTIONS.name, query, limit=1, sort=[(f"{share}.first", -1)])
        run = SerialRange(int(found[0][share]["first"]), int(found[0][share]["last"])) if found else None
        return run if run and run.last >= serial else None

    async def find_behind(self, batch: BatchCode, serial: int) -> Contribution | None:
        """The contribution for which that serial was issued."""
        async for found in self.stream_behind(batch, [SerialRange(serial, serial)]):
            return found[0]
        return None

    async def list_acts_of(self, contributions: Sequence[Contribution]) -> dict[CitizenId, list[PooledAct]]:
        """The acts of these contributions to one batch, by citizen and number."""
        acts: dict[CitizenId, list[PooledAct]] = {one.citizen: [] for one in contributions}
        query = {"batch": contributions[0].batch, "citizen": {"$in": sorted(acts)}}
        limit = sum(one.acts for one in contributions)
        sort = [("batch", 1), ("citizen", 1), ("number", 1)]
        for document in await self._database.find(POOLED_ACTS.name, query, limit=limit, sort=sort):
            acts[CitizenId(document["citizen"])].append(pooled_act_from_document(document))
        return acts

    async def find_acts(self, batch: BatchCode, actions: Iterable[ActionId]) -> dict[ActionId, PooledAct]:
        """Those of the actions that are in the batch."""
        wanted = list(actions)
        query = {"_id": {"$in": wanted}, "batch": batch}
        found = await self._database.find(POOLED_ACTS.name, query, limit=len(wanted) or 1)
        return {act.action: act for act in map(pooled_act_from_document, found)}

    async def list_rules(self, batch: BatchCode) -> list[RuleRef]:
        """The rule versions by which the batch's acts were credited."""
        found = await self._database.aggregate(
            POOLED_ACTS.name, [{"$match": {"batch": batch}}, {"$group": {"_id": "$rule"}}]
        )
        return [RuleRef(group["_id"]["code"], int(group["_id"]["version"])) for group in found]


class PoolingWrites(KeyedWrites):
    """Consents, batches and what is in them, inside one MongoDB transaction."""

    async def find_consents(self, citizens: Sequence[CitizenId]) -> dict[CitizenId, Consent]:
        """The authorisations in force of these citizens."""
        found = await self._tx.find(CONSENTS.name, {"citizen": {"$in": list(citizens)}, "current": True})
        return {consent.citizen: consent for consent in map(consent_from_document, found)}

    async def last_consent(self, citizen: CitizenId) -> Consent | None:
        """The last version of the citizen's authorisation, in force or not."""
        found = await self._tx.find(CONSENTS.name, {"citizen": citizen}, sort=[("number", -1)], limit=1)
        return consent_from_document(found[0]) if found else None

    async def rely_on(self, consents: Iterable[Consent]) -> None:
        """Note that grams are gathered on the strength of these: who withdraws one meanwhile comes before or after."""
        query = {"current": True}
        changes = [UpdateOne({"_id": consent.id, **query}, {"$inc": {"used": Int64(1)}}) for consent in consents]
        await self._tx.bulk_write(CONSENTS.name, changes)

    async def end_consent(self, consent: Consent, at: datetime) -> None:
        """Let an authorisation end."""
        change = {"$set": {"until": at, "current": False}}
        await self._tx.update_one(CONSENTS.name, {"_id": consent.id, "current": True}, change)

    async def insert_consent(self, consent: Consent) -> None:
        """Keep a new version."""
        await self._tx.insert_many(CONSENTS.name, [consent_to_document(consent)])

    async def find_batch(self, code: str) -> Batch | None:
        """The batch of that code."""
        found = await self._tx.find_one(BATCHES.name, {"_id": code})
        return batch_from_document(found) if found else None

    async def find_opened(self, opening: str) -> Batch | None:
        """The batch that this use of a key opened."""
        found = await self._tx.find_one(BATCHES.name, {"opening": opening})
        return batch_from_document(found) if found else None

    async def last_number(self, scenario: Category, vintage: int) -> int:
        """The number of the last batch of that scenario and vintage; 0 before the first."""
        query = {"scenario": scenario.value, "vintage": Int64(vintage)}
        found = await self._tx.find(BATCHES.name, query, ["number"], sort=[("number", -1)], limit=1)
        return int(found[0]["number"]) if found else 0

    async def insert_batch(self, batch: Batch) -> None:
        """Open a batch; a number taken meanwhile starts the transaction again."""
        await self._tx.insert_many(BATCHES.name, [batch_to_document(batch)])

    async def change_batch(self, before: Batch, after: Batch) -> Batch:
        """Put the batch in the place of what it was, and give it its next version; the batch as it then stands."""
        after = dataclasses.replace(after, version=before.version + 1)
        document = batch_to_document(after)
        query = {"_id": document.pop("_id"), "version": Int64(before.version)}
        await self._tx.update_one(BATCHES.name, query, {"$set": document})
        return after

    async def find_contribution(self, batch: BatchCode, citizen: CitizenId) -> Contribution | None:
        """What the citizen gave to the batch."""
        found = await self._tx.find_one(CONTRIBUTIONS.name, {"_id": contribution_id(batch, citizen)})
        return contribution_from_document(found) if found else None

    async def has_given(self, batch: BatchCode, citizen: CitizenId) -> bool:
        """Whether something of the citizen's is in the batch."""
        query = {"_id": contribution_id(batch, citizen), **GIVEN}
        return await self._tx.find_one(CONTRIBUTIONS.name, query) is not None

    async def list_contributions(self, batch: BatchCode, citizens: Sequence[str]) -> list[Contribution]:
        """What these citizens gave to the batch, by citizen id."""
        query = {"batch": batch, "citizen": {"$in": list(citizens)}}
        found = await self._tx.find(CONTRIBUTIONS.name, query, sort=[("citizen", 1)])
        return [contribution_from_document(document) for document in found]

    async def find_contributions(self, citizens: Sequence[CitizenId], vintage: int) -> list[Contribution]:
        """All contributions of these citizens' acts of that year, to whatever batch."""
        query = {"citizen": {"$in": list(citizens)}, "vintage": Int64(vintage)}
        return [contribution_from_document(document) for document in await self._tx.find(CONTRIBUTIONS.name, query)]

    async def put_contributions(self, contributions: Sequence[Contribution]) -> None:
        """Write contributions anew."""
        changes = []
        for contribution in contributions:
            document = contribution_to_document(contribution)
            changes.append(UpdateOne({"_id": document.pop("_id")}, {"$set": document}, upsert=True))
        await self._tx.bulk_write(CONTRIBUTIONS.name, changes)

    async def find_pooled(self, actions: Sequence[ActionId]) -> frozenset[ActionId]:
        """Those of the actions that are in some batch."""
        return await find_bound(self._tx, actions)

    async def insert_acts(self, acts: Sequence[PooledAct]) -> None:
        """Lock acts into their batch: an act that is in one starts the transaction again."""
        await self._tx.insert_many(POOLED_ACTS.name, [pooled_act_to_document(act) for act in acts])

    async def list_acts(self, contribution: Contribution) -> list[PooledAct]:
        """The acts of a contribution, by number."""
        query = {"batch": contribution.batch, "citizen": contribution.citizen}
        found = await self._tx.find(POOLED_ACTS.name, query, sort=[("number", 1)], limit=contribution.acts)
        return [pooled_act_from_document(document) for document in found]

    async def find_act(self, action: ActionId) -> PooledAct | None:
        """The act as it is in its batch."""
        found = await self._tx.find_one(POOLED_ACTS.name, {"_id": action})
        return pooled_act_from_document(found) if found else None

    async def release_act(self, act: PooledAct) -> None:
        """Free one act."""
        await self._tx.bulk_write(POOLED_ACTS.name, [DeleteOne({"_id": act.action})])

    async def find_versions(self, codes: Iterable[BatchCode]) -> dict[BatchCode, tuple[BatchStage, int]]:
        """The stages of these batches, and their versions."""
        found = await self._tx.find(BATCHES.name, {"_id": {"$in": sorted(set(codes))}}, ["stage", "version"])
        return {BatchCode(one["_id"]): (BatchStage(one["stage"]), int(one["version"])) for one in found}

    async def touch(self, versions: Mapping[BatchCode, int]) -> None:
        """Count a change of what is in these batches: a verdict on what was there before is none on this."""
        await self._tx.bulk_write(
            BATCHES.name,
            [
                UpdateOne({"_id": code, "version": Int64(at)}, {"$inc": {"version": Int64(1)}})
                for code, at in versions.items()
            ],
        )

    async def release_acts(self, contribution: Contribution) -> None:
        """Free all acts of a contribution."""
        query = {"batch": contribution.batch, "citizen": contribution.citizen}
        found = await self._tx.find(POOLED_ACTS.name, query, ["_id"])
        await self._tx.bulk_write(POOLED_ACTS.name, [DeleteOne({"_id": document["_id"]}) for document in found])
