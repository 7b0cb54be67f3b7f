"""The door through which staff change rules: who may take which step; the rules' own life cycle says the rest."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from backend.identity import rules
from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind, StaffRole
from backend.kernel.errors import Text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backend.identity.model import Principal
    from backend.rules.drafts import Draft, LogEntry, Stage, Subject
    from backend.rules.drafts_store import Place
    from backend.rules.lifecycle import Lifecycle
    from backend.rules.steps import Order

MAX_REASON = 500
ANY_STAFF = frozenset(StaffRole)
_WRITES = frozenset({StaffRole.ADMIN})
_DECIDES = frozenset({StaffRole.ADMIN, StaffRole.REVIEWER})


class RuleDesk:
    """Drafts of rules for staff: administrators write, submit and publish; they and reviewers approve and reject.

    Every method that changes something raises, beside what the life cycle refuses:
        ForbiddenError: the principal's office is another.
        InvalidInputError: the key, or a reason beyond 1–500 characters.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def find_draft(self, principal: Principal, draft: str) -> Draft | None:
        """The draft of that id, for any member of staff."""
        require_staff(principal, ANY_STAFF, Text("查看规则草稿", "rule drafts"))
        return await self._lifecycle.find_draft(draft)

    async def list_drafts(
        self,
        principal: Principal,
        stage: Stage | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[Draft]:
        """Drafts in that stage or in any, newest first."""
        require_staff(principal, ANY_STAFF, Text("查看规则草稿", "rule drafts"))
        return await self._lifecycle.list_drafts(stage, limit=limit, older=older, newer=newer, newest=newest)

    async def list_log(
        self,
        principal: Principal,
        subject: str | None,
        *,
        limit: int,
        older: Place | None,
        newer: Place | None,
        newest: bool,
    ) -> list[LogEntry]:
        """What was done with that subject (``rule:R-MET1``) or with any, newest first."""
        require_staff(principal, ANY_STAFF, Text("查看规则日志", "the rules' log"))
        return await self._lifecycle.list_log(subject, limit=limit, older=older, newer=newer, newest=newest)

    async def draft(
        self, principal: Principal, subject: Subject, changes: Mapping[str, Any], *, key: str, reason: str | None
    ) -> Draft:
        """Begin a draft of the subject with these changes to what is published of it."""
        actor = _require(principal, key, reason, _WRITES, Text("起草规则", "drafting rules"))
        return await self._lifecycle.draft(actor, subject, changes, key=key, reason=reason or "")

    async def retire(
        self, principal: Principal, rule: str, at: datetime | None, why: Text, *, key: str, reason: str | None
    ) -> Draft:
        """Propose to switch a rule off."""
        actor = _require(principal, key, reason, _WRITES, Text("停用规则", "retiring rules"))
        return await self._lifecycle.retire(actor, rule, at, why, key=key, reason=reason or "")

    async def edit(self, principal: Principal, order: Order, subject: Subject, changes: Mapping[str, Any]) -> Draft:
        """Write a draft anew."""
        return await self._lifecycle.edit(_write(principal, order), subject, changes)

    async def validate(self, principal: Principal, order: Order) -> Draft:
        """Hold a draft against the rule book."""
        return await self._lifecycle.validate(_write(principal, order))

    async def submit(self, principal: Principal, order: Order, *, why_untested: str | None) -> Draft:
        """Ask others to approve a draft."""
        order = _write(principal, order)
        if why_untested is not None:
            rules.require_note("whyUntested", why_untested, limit=MAX_REASON)
        return await self._lifecycle.submit(order, why_untested=why_untested)

    async def approve(self, principal: Principal, order: Order) -> Draft:
        """Agree to a draft of somebody else's."""
        return await self._lifecycle.approve(_decide(principal, order))

    async def reject(self, principal: Principal, order: Order) -> Draft:
        """Turn a draft down, and say why."""
        order = _decide(principal, order)
        rules.require_note("reason", order.reason, limit=MAX_REASON)
        return await self._lifecycle.reject(order)

    async def publish(
        self, principal: Principal, order: Order, *, valid_from: datetime | None, valid_to: datetime | None
    ) -> Draft:
        """Put an approved draft into the rule book."""
        return await self._lifecycle.publish(_write(principal, order), valid_from=valid_from, valid_to=valid_to)

    async def discard(self, principal: Principal, order: Order) -> Draft:
        """Give a draft up."""
        return await self._lifecycle.discard(_write(principal, order))

    async def count_affected(self, draft: Draft) -> int | None:
        """How many settled acts a restatement by this published version would concern."""
        return await self._lifecycle.count_affected(draft)


def require_staff(principal: Principal, roles: frozenset[StaffRole], what: Text) -> None:
    """Let pass a member of staff with one of the roles.

    Raises:
        ForbiddenError: anybody else.
    """
    if principal.kind is not PrincipalKind.STAFF or not principal.staff_roles & roles:
        raise ForbiddenError(what)


def _require(principal: Principal, key: str, reason: str | None, roles: frozenset[StaffRole], what: Text) -> str:
    rules.require_idempotency_key(key)
    require_staff(principal, roles, what)
    if reason:
        rules.require_note("reason", reason, limit=MAX_REASON)
    return str(principal)


def _write(principal: Principal, order: Order) -> Order:
    actor = _require(principal, order.key, order.reason, _WRITES, Text("更改规则", "changing rules"))
    return dataclasses.replace(order, actor=actor)


def _decide(principal: Principal, order: Order) -> Order:
    actor = _require(principal, order.key, order.reason, _DECIDES, Text("审批规则", "approving rules"))
    return dataclasses.replace(order, actor=actor)
