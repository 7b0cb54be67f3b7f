"""Batches of reductions: what staff do with them, and the public registry of issued ones."""

from __future__ import annotations

from datetime import date, datetime
from functools import partial
from typing import Any

import strawberry

from backend.identity.model import PrincipalKind
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.ids import ActionId
from backend.market.pooling import errors
from backend.market.pooling.model import Adjustment, Batch, Ending, Issue, Sample, Verdict
from backend.market.pooling.verifying import Report
from backend.rules.refusals import ForeignProfileError
from schemas.context import Info
from schemas.enums import AdjustmentReason, BatchStage, Category
from schemas.refusals import result_union
from schemas.relay import Connection, Node, connect_by_moment, local_id_of, page_span, to_global_id
from schemas.scalars import BigInt
from schemas.view import view


def _is_staff(info: Info) -> bool:
    principal = info.context.principal
    return principal is not None and principal.kind is PrincipalKind.STAFF


def _for_staff(name: str, info: Info) -> str | None:
    return name if _is_staff(info) else None


@view(of=Adjustment, name="BatchAdjustment")
class AdjustmentType:
    """What a verifier took off: an act, or so many hundredths of a per cent of all that was left; ``mg`` milligrams."""

    bps: int | None
    reason: AdjustmentReason
    note: str
    mg: BigInt

    @strawberry.field
    @staticmethod
    def action_id(parent: strawberry.Parent[Adjustment], info: Info) -> strawberry.ID | None:
        """Global id of the act; for staff."""
        return to_global_id("Action", parent.action) if parent.action is not None and _is_staff(info) else None


@view(of=Verdict, name="BatchVerdict")
class VerdictType:
    """What the verifier said; ``reportHash`` is the SHA-256 of the report."""

    organisation: str
    report_hash: str
    report_name: str
    statement: str
    at: datetime
    deducted_mg: BigInt

    @strawberry.field
    @staticmethod
    def verifier(parent: strawberry.Parent[Verdict], info: Info) -> str | None:
        """Who recorded it; for staff."""
        return _for_staff(parent.verifier, info)

    @strawberry.field
    @staticmethod
    def content_hash(parent: strawberry.Parent[Verdict]) -> str:
        """SHA-256 of the acts that were verified, as a file."""
        return parent.content

    @strawberry.field(graphql_type=list[AdjustmentType])
    @staticmethod
    def adjustments(parent: strawberry.Parent[Verdict]) -> list[Adjustment]:
        """What was taken off, at most 200."""
        return list(parent.adjustments)


@view(of=Sample, name="BatchSample")
class SampleType:
    """Acts to look at, drawn by the hash of the batch's contents."""

    size: int
    seed: str
    drawn_by: str
    drawn_at: datetime

    @strawberry.field
    @staticmethod
    def action_ids(parent: strawberry.Parent[Sample]) -> list[strawberry.ID]:
        """Global ids of the acts, by kind."""
        return [to_global_id("Action", action) for action in parent.actions]


@view(of=Ending, name="BatchEnding")
class EndingType:
    """Why a batch was called off, or rejected by the verifier."""

    by: str
    at: datetime
    reason: str

    @strawberry.field
    @staticmethod
    def rejected(parent: strawberry.Parent[Ending]) -> bool:
        """Whether it was the verifier."""
        return parent.is_verdict


@view(of=Issue, name="BatchIssuance")
class IssueType:
    """The issuance of a batch: whole tonnes in grams, and milligrams that are left in the pool."""

    begun_at: datetime
    issued_at: datetime | None
    residual_mg: BigInt

    @strawberry.field
    @staticmethod
    def issued_g(parent: strawberry.Parent[Issue]) -> BigInt:
        """Grams, which are serials from 1 on."""
        return BigInt(parent.grams)

    @strawberry.field
    @staticmethod
    def methodologies(parent: strawberry.Parent[Issue]) -> list[str]:
        """Codes of the methodologies by which its acts were credited."""
        return list(parent.methodologies)

    @strawberry.field
    @staticmethod
    def issuer(parent: strawberry.Parent[Issue], info: Info) -> str | None:
        """Who issued it; for staff."""
        return _for_staff(parent.issuer, info)


@view(of=Batch, name="Batch")
class BatchType(Node):
    """Quantified grams of one scenario, profile and period, gathered from citizens who authorised it."""

    number: BigInt
    scenario: Category
    profile: str
    vintage: int
    stage: BatchStage
    credit: str
    opened_at: datetime
    gathered_at: datetime | None

    @strawberry.field
    @staticmethod
    def batch(parent: strawberry.Parent[Batch]) -> str:
        """Its code."""
        return parent.code

    @strawberry.field
    @staticmethod
    def project(parent: strawberry.Parent[Batch], info: Info) -> str:
        """Name of the project, in the reader's language."""
        return parent.project.said(info.context.language)

    @strawberry.field
    @staticmethod
    def since(parent: strawberry.Parent[Batch]) -> date:
        """The first local day."""
        return parent.since

    @strawberry.field
    @staticmethod
    def until(parent: strawberry.Parent[Batch]) -> date:
        """The first local day behind it."""
        return parent.until

    @strawberry.field
    @staticmethod
    def opener(parent: strawberry.Parent[Batch], info: Info) -> str | None:
        """Who opened it; for staff."""
        return _for_staff(parent.opener, info)

    @strawberry.field
    @staticmethod
    def contributors(parent: strawberry.Parent[Batch]) -> BigInt:
        """How many citizens have something in it."""
        return BigInt(parent.totals.contributions)

    @strawberry.field
    @staticmethod
    def acts(parent: strawberry.Parent[Batch]) -> BigInt:
        """How many acts it holds."""
        return BigInt(parent.totals.acts)

    @strawberry.field
    @staticmethod
    def quantified_mg(parent: strawberry.Parent[Batch]) -> BigInt:
        """Milligrams CO2e that were given."""
        return BigInt(parent.totals.mg)

    @strawberry.field(graphql_type=SampleType | None)
    @staticmethod
    def sample(parent: strawberry.Parent[Batch], info: Info) -> Sample | None:
        """The sample drawn last; for staff."""
        return parent.sample if _is_staff(info) else None

    @strawberry.field(graphql_type=VerdictType | None)
    @staticmethod
    def verdict(parent: strawberry.Parent[Batch]) -> Verdict | None:
        """What the verifier said."""
        return parent.verdict

    @strawberry.field(graphql_type=EndingType | None)
    @staticmethod
    def ending(parent: strawberry.Parent[Batch], info: Info) -> Ending | None:
        """Why it was called off or rejected; for staff."""
        return parent.ending if _is_staff(info) else None

    @strawberry.field(graphql_type=IssueType | None)
    @staticmethod
    def issuance(parent: strawberry.Parent[Batch]) -> Issue | None:
        """What was issued, once it has begun."""
        return parent.issue


@strawberry.input
class OpenBatchInput:
    """Acts of a scenario on the local days [since, until) of one past year, and what the project is called."""

    idempotency_key: str
    scenario: Category
    profile: str
    since: date
    until: date
    project_zh: str
    project_en: str


@strawberry.input
class CancelBatchInput:
    """A batch that is not verified, and why it is called off, in 1–200 characters."""

    idempotency_key: str
    batch: strawberry.ID
    reason: str


@strawberry.input
class DrawSampleInput:
    """How many acts (1–1,000) of a gathered batch to look at."""

    idempotency_key: str
    batch: strawberry.ID
    size: int


@strawberry.input
class BatchAdjustmentInput:
    """An act that is taken off, or hundredths of a per cent of all that is left then; why, in 1–200 characters."""

    reason: AdjustmentReason
    note: str
    action: strawberry.ID | None = None
    bps: int | None = None


@strawberry.input
class VerifyBatchInput:
    """The verdict on a gathered batch, with the SHA-256 (hex) and name of the report."""

    idempotency_key: str
    batch: strawberry.ID
    report_hash: str
    report_name: str
    verifier_organisation: str
    statement: str
    adjustments: list[BatchAdjustmentInput] = strawberry.field(default_factory=list)


@strawberry.input
class RejectBatchInput:
    """A gathered batch, and why it is refused, in 1–200 characters."""

    idempotency_key: str
    batch: strawberry.ID
    reason: str


@strawberry.input
class IssueBatchInput:
    """A verified batch."""

    idempotency_key: str
    batch: strawberry.ID


ANY = (IdempotencyConflictError, InvalidInputError)
KNOWN = (errors.UnknownBatchError, errors.WrongBatchStageError)
OpenBatchResult: Any = result_union("OpenBatchResult", BatchType, ForeignProfileError, *ANY)
CancelBatchResult: Any = result_union("CancelBatchResult", BatchType, *KNOWN, *ANY)
DrawSampleResult: Any = result_union("DrawSampleResult", BatchType, *KNOWN, errors.EmptyBatchError, *ANY)
VerifyBatchResult: Any = result_union(
    "VerifyBatchResult",
    BatchType,
    *KNOWN,
    errors.EmptyBatchError,
    errors.FourEyesError,
    errors.SampleNeededError,
    errors.NotInBatchError,
    errors.BatchTooSmallError,
    *ANY,
)
RejectBatchResult: Any = result_union("RejectBatchResult", BatchType, *KNOWN, errors.FourEyesError, *ANY)
IssueBatchResult: Any = result_union(
    "IssueBatchResult", BatchType, *KNOWN, errors.FourEyesError, errors.BatchTooSmallError, *ANY
)


def _code(given: str) -> str:
    return local_id_of(Batch.__name__, given)


def _adjustment(given: BatchAdjustmentInput) -> Adjustment:
    action = ActionId(local_id_of("Action", given.action)) if given.action is not None else None
    return Adjustment(action=action, bps=given.bps, reason=given.reason, note=given.note)


@strawberry.type
class BatchesMutation:
    """What staff do with batches; opening, verifying and issuing take three different persons."""

    @strawberry.mutation(graphql_type=OpenBatchResult)
    async def open_batch(self, info: Info, input: OpenBatchInput) -> Batch:  # noqa: A002 - the contract's name
        """Open a batch, which workers gather; for administrators."""
        principal = info.context.require_principal()
        return await info.context.services.market.pooling.batches.open(
            principal,
            input.scenario,
            input.profile,
            input.since,
            input.until,
            Text(input.project_zh, input.project_en),
            key=input.idempotency_key,
        )

    @strawberry.mutation(graphql_type=CancelBatchResult)
    async def cancel_batch(self, info: Info, input: CancelBatchInput) -> Batch:  # noqa: A002
        """Call a batch off that is not verified: everything returns to its contributors; for administrators."""
        principal = info.context.require_principal()
        batches = info.context.services.market.pooling.batches
        return await batches.cancel(principal, _code(input.batch), input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=DrawSampleResult)
    async def draw_sample(self, info: Info, input: DrawSampleInput) -> Batch:  # noqa: A002
        """Draw acts of a gathered batch to be looked at, by the hash of its contents; for verifiers."""
        principal = info.context.require_principal()
        verifying = info.context.services.market.pooling.verifying
        return await verifying.draw_sample(principal, _code(input.batch), input.size, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=VerifyBatchResult)
    async def verify_batch(self, info: Info, input: VerifyBatchInput) -> Batch:  # noqa: A002
        """Confirm a gathered batch but for the adjustments, once a sample of it is drawn.

        For verifiers, but not who opened it or gave to it.
        """
        principal = info.context.require_principal()
        report = Report(input.report_hash, input.report_name, input.verifier_organisation, input.statement)
        return await info.context.services.market.pooling.verifying.verify(
            principal,
            _code(input.batch),
            report,
            [_adjustment(given) for given in input.adjustments],
            key=input.idempotency_key,
        )

    @strawberry.mutation(graphql_type=RejectBatchResult)
    async def reject_batch(self, info: Info, input: RejectBatchInput) -> Batch:  # noqa: A002
        """Refuse a gathered batch: everything returns to its contributors; for verifiers, but not who opened it."""
        principal = info.context.require_principal()
        verifying = info.context.services.market.pooling.verifying
        return await verifying.reject(principal, _code(input.batch), input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=IssueBatchResult)
    async def issue_batch(self, info: Info, input: IssueBatchInput) -> Batch:  # noqa: A002
        """Issue the whole tonnes of a verified batch; for administrators, but not who opened it, verified or gave."""
        principal = info.context.require_principal()
        batches = info.context.services.market.pooling.batches
        return await batches.issue(principal, _code(input.batch), key=input.idempotency_key)


@strawberry.type
class BatchAdminQueries:
    """What staff read of batches."""

    @strawberry.field(graphql_type=BatchType | None)
    async def batch(self, info: Info, id: strawberry.ID) -> Batch | None:  # noqa: A002 - the contract's name
        """One batch, by its global id or code."""
        return await find_batch(info, _code(id))

    @strawberry.field(graphql_type=Connection[BatchType])
    async def batches(
        self,
        info: Info,
        stage: BatchStage | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Batch]:
        """Batches in one stage or in any, the one opened last first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.market.pooling.batches.list_batches, principal, stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda batch: (batch.opened_at, batch.code))


@strawberry.type
class BatchesQuery:
    """What everybody reads of batches."""

    @strawberry.field(graphql_type=Connection[BatchType])
    async def registry(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Batch]:
        """Issued batches, the last first; at most 100 a page; for everybody."""
        span = page_span(first, after, last, before)
        list_page = info.context.services.market.pooling.batches.list_issued
        return await connect_by_moment(span, list_page, _issued_place)


def _issued_place(batch: Batch) -> tuple[datetime, str]:
    assert batch.issued_at is not None, "the registry has issued batches only"
    return batch.issued_at, batch.code


async def find_batch(info: Info, local_id: str) -> Batch | None:
    """The batch of that code: for staff, and once it is issued for everybody."""
    return await info.context.services.market.pooling.batches.find(info.context.principal, local_id)
