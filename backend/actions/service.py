"""The door to actions: record them (one by one in groups, or in batches) and read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.actions import rules
from backend.actions.errors import (
    ActionConflictError,
    BatchTooLargeError,
    NotBoundError,
    TooOldError,
    UnknownCitizenError,
)
from backend.actions.model import Action
from backend.identity.model import ExternalId
from backend.kernel.clock import to_milliseconds
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import AccessError, DomainError, IdempotencyConflictError
from backend.kernel.grouping import Groups
from backend.mongo.idempotency import Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from backend.actions.model import ActionRequest, Total
    from backend.actions.store import ActionStore
    from backend.identity.model import Citizen, Principal
    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.kernel.ids import ActionId, CitizenId
    from backend.mongo.idempotency import IdempotencyKeys
    from backend.rules.service import Rules

MAX_PAGE = 200
GROUP_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Recorded:
    """A stored action, and whether this very call stored it."""

    action: Action
    is_new: bool


Outcome = Recorded | DomainError


@dataclass(frozen=True, slots=True)
class _Holders:
    """Who stands behind the requests of a group, as identity knows it."""

    bound: Mapping[ExternalId, CitizenId]
    pairs: frozenset[tuple[CitizenId, str]]
    registered: Mapping[CitizenId, Citizen]

    def of(self, principal: Principal, request: ActionRequest) -> CitizenId:
        """Whose act it is; only for requests that ``refusal`` lets pass."""
        if principal.citizen is not None:
            return principal.citizen
        if request.external_id is not None:
            return self.bound[ExternalId(request.source, request.external_id)]
        assert request.citizen is not None
        return request.citizen

    def refusal(self, principal: Principal, request: ActionRequest) -> DomainError | None:
        """Why nobody known stands behind the request; None where somebody does."""
        if principal.citizen is not None:
            return None
        if request.external_id is not None:
            citizen = self.bound.get(ExternalId(request.source, request.external_id))
            return None if citizen is not None and request.citizen in (None, citizen) else NotBoundError(request.source)
        if request.citizen is not None and principal.is_admin:
            return None if request.citizen in self.registered else UnknownCitizenError(request.citizen)
        return None if (request.citizen, request.source) in self.pairs else NotBoundError(request.source)


@dataclass(frozen=True, slots=True)
class _Submission:
    principal: Principal
    request: ActionRequest
    key: str


class Actions:
    """Recording and reading of actions."""

    def __init__(
        self,
        *,
        store: ActionStore,
        identity: Identity,
        rule_service: Rules,
        keys: IdempotencyKeys,
        clock: Clock,
        window: rules.Window,
        wake: Callable[[Iterable[int]], None],
    ) -> None:
        self._store = store
        self._identity = identity
        self._rules = rule_service
        self._keys = keys
        self._clock = clock
        self._window = window
        self._wake = wake
        self._groups = Groups(self._commit, limit=GROUP_LIMIT, name="group commit of actions")

    async def record(self, principal: Principal, request: ActionRequest, *, key: str) -> Action:
        """Record one action under an idempotency key; on return it is durable on a majority.

        Records that arrive while another group is being written wait for the next one and share its two writes.

        Raises:
            DomainError: any refusal of ``rules.check_request``, ``ForbiddenError``, ``NotBoundError``,
                ``ActionConflictError``, ``IdempotencyConflictError``; nothing was written.
            UnavailableError: the effect is unknown; the same call again is safe.
            BusyError: too many records wait already; nothing was written.
        """
        rules.check_idempotency_key(key)
        return (await self._groups.submit(_Submission(principal, request, key))).action

    async def record_many(
        self, principal: Principal, requests: Sequence[ActionRequest], *, key: str, backfill: bool = False
    ) -> list[Outcome]:
        """Record 1–500 actions; each is stored or refused on its own, in order.

        Raises:
            BatchTooLargeError, InvalidInputError, IdempotencyConflictError, AccessError: nothing was written.
            UnavailableError: the effect is unknown; the same call again is safe.
        """
        rules.check_idempotency_key(key)
        if not 1 <= len(requests) <= rules.MAX_BATCH:
            raise BatchTooLargeError(len(requests), rules.MAX_BATCH)
        now = self._clock.now()
        admitted = await self._admit([(principal, r) for r in requests], now=now, backfill=backfill)
        for outcome in admitted:
            if isinstance(outcome, AccessError):
                raise outcome
        if any(isinstance(outcome, Action) for outcome in admitted):  # else nothing is written, the key neither
            payload = payload_hash([_request_payload(request) for request in requests])
            use = Use(str(principal), "recordActions", key, payload)
            if await self._keys.claim_many([use], now=now) != [True]:
                raise IdempotencyConflictError(key)
        return await self._store_admitted(admitted)

    async def _commit(self, group: Sequence[_Submission]) -> Sequence[Recorded | Exception]:
        now = self._clock.now()
        asked = [(submission.principal, submission.request) for submission in group]
        admitted = await self._admit(asked, now=now, backfill=False)
        claimed = [position for position, outcome in enumerate(admitted) if isinstance(outcome, Action)]
        uses = [
            Use(
                str(group[position].principal),
                "recordAction",
                group[position].key,
                payload_hash(_request_payload(group[position].request)),
            )
            for position in claimed
        ]
        for position, free in zip(claimed, await self._keys.claim_many(uses, now=now), strict=True):
            if not free:
                admitted[position] = IdempotencyConflictError(group[position].key)
        outcomes = await self._store_admitted(admitted)
        # A refusal changes nothing: a key whose record met another's reference is free again.
        refused = [use for position, use in zip(claimed, uses, strict=True) if _conflicts(outcomes[position])]
        await self._keys.release(refused)
        return outcomes

    async def _admit(
        self, asked: Sequence[tuple[Principal, ActionRequest]], *, now: datetime, backfill: bool
    ) -> list[Action | DomainError]:
        """Validate and authorise; reads only."""
        book = await self._rules.book()
        # Only texts that can be texts of anything are looked up: a bad one must not spoil the group's queries.
        readable = [(principal, request) for principal, request in asked if not rules.check_texts(request)]
        owners = await self._identity.find_source_owners({request.source for _, request in readable})
        holders = await self._find_holders(readable)
        admitted: list[Action | DomainError] = []
        late: dict[int, Action] = {}
        for position, (principal, request) in enumerate(asked):
            refusal = (
                rules.check_texts(request)
                or rules.check_authority(principal, request, owners.get(request.source))
                or holders.refusal(principal, request)
            )
            refusal = refusal or rules.check_request(
                request, book.kinds.get(request.kind), window=self._window, now=now, backfill=backfill
            )
            if refusal is None or isinstance(refusal, TooOldError):
                action = _action(principal, request, holders.of(principal, request), now=now, backfill=backfill)
                if refusal is not None:
                    late[position] = action
            admitted.append(refusal or action)
        if late:
            await self._admit_replays(late, admitted)
        return admitted

    async def _admit_replays(self, late: Mapping[int, Action], admitted: list[Action | DomainError]) -> None:
        """What was recorded in time is not too old when its record is sent again."""
        stored = await self._store.find(action.id for action in late.values())
        for position, action in late.items():
            earlier = stored.get(action.id)
            if earlier is not None and earlier.payload == action.payload:
                admitted[position] = action

    async def _find_holders(self, asked: Sequence[tuple[Principal, ActionRequest]]) -> _Holders:
        named = [(principal, request) for principal, request in asked if request.citizen is not None]
        return _Holders(
            bound=await self._identity.find_bound(
                {ExternalId(r.source, r.external_id) for _, r in asked if r.external_id is not None}
            ),
            pairs=await self._identity.find_bound_pairs(
                {(r.citizen, r.source) for p, r in named if r.citizen and not p.is_admin}
            ),
            registered=await self._identity.find_citizens({r.citizen for p, r in named if r.citizen and p.is_admin}),
        )

    async def _store_admitted(self, admitted: Sequence[Action | DomainError]) -> list[Outcome]:
        actions = [outcome for outcome in admitted if isinstance(outcome, Action)]
        stored_before = await self._store.insert(actions)
        self._wake({action.shard for action in actions})
        outcomes: list[Outcome] = []
        position = -1
        for outcome in admitted:
            if not isinstance(outcome, Action):
                outcomes.append(outcome)
                continue
            position += 1
            earlier = stored_before.get(position)
            if earlier is None:
                outcomes.append(Recorded(outcome, is_new=True))
            elif earlier.payload == outcome.payload:
                outcomes.append(Recorded(earlier, is_new=False))
            else:
                outcomes.append(ActionConflictError(outcome.source, outcome.ref))
        return outcomes

    async def list_totals(self, run: str | None = None) -> list[Total]:
        """Count, milligrams and points by kind, status and reason: of one importer's run, or of everything."""
        return await self._store.totals(run)

    async def find_actions(self, ids: Iterable[ActionId]) -> dict[ActionId, Action]:
        """Those of the actions that are recorded, whoever's they are: the caller authorises."""
        return await self._store.find(ids)

    async def list_actions(
        self,
        citizen: CitizenId,
        *,
        limit: int,
        older_than: tuple[datetime, str] | None = None,
        newer_than: tuple[datetime, str] | None = None,
        newest: bool = True,
    ) -> list[Action]:
        """At most ``limit`` (≤ 200) actions of the citizen between two (occurred_at, id) places, newest act first."""
        actions = await self._store.list_for(
            citizen, older_than=older_than, newer_than=newer_than, limit=min(limit, MAX_PAGE), newest=newest
        )
        return actions if newest else actions[::-1]


def _action(
    principal: Principal, request: ActionRequest, citizen: CitizenId, *, now: datetime, backfill: bool
) -> Action:
    return Action(
        citizen=citizen,
        source=request.source,
        ref=request.ref,
        kind=request.kind,
        quantity=request.quantity,
        unit=request.unit,
        occurred_at=to_milliseconds(request.occurred_at),
        ended_at=to_milliseconds(request.ended_at) if request.ended_at else None,
        attributes=request.attributes,
        tier=rules.tier_of(principal, request),
        evidence=request.evidence,
        recorded_at=now,
        recorded_by=str(principal),
        backfill=backfill,
        import_row=request.import_row,
    )


def _conflicts(outcome: Outcome) -> bool:
    return isinstance(outcome, ActionConflictError)


def _request_payload(request: ActionRequest) -> list[object]:
    return [
        request.kind,
        request.quantity,
        request.unit,
        _moment(request.occurred_at),
        _moment(request.ended_at),
        request.source,
        request.ref,
        request.citizen,
        request.external_id,
        {str(name): str(value) for name, value in request.attributes.items()},
        request.tier.value if request.tier else None,
        request.evidence,
    ]


def _moment(moment: datetime | None) -> str | None:
    """The same text for the same moment, whatever its offset."""
    try:
        return to_milliseconds(moment).isoformat() if moment else None
    except (ValueError, OverflowError):
        return str(moment)  # of a request that was refused
