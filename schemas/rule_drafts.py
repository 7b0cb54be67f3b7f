"""Drafts of rules, what was done to them, and the mutations by which staff bring them into the rule book."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.identity.rule_desk import ANY_STAFF, require_staff
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.rules import drafting, refusals
from backend.rules.drafts import Backtest, Change, Draft, LogEntry
from backend.rules.model import Campaign, Kind, Limit, Limits, RuleVersion
from backend.rules.steps import Order
from schemas.backtests import BacktestQueries
from schemas.batches import BatchAdminQueries
from schemas.benefits import BenefitAdminQueries
from schemas.context import Info
from schemas.counter import DisputeQueries
from schemas.enterprises import EnterpriseAdminQueries
from schemas.enums import Stage, Step, Subject
from schemas.funds import FundAdminQueries
from schemas.merchants import MerchantAdminQueries
from schemas.offers import OfferAdminQueries
from schemas.refusals import RuleProblemType, result_union
from schemas.relay import Connection, connect_by_moment, page_span
from schemas.restatements import RestatementQueries
from schemas.reviews import ReviewQueries
from schemas.rule_inputs import BilingualInput, CampaignInput, KindInput, LimitsInput, RuleInput, to_wording
from schemas.rules import CampaignType, KindType, LimitType, RuleVersionType
from schemas.scalars import BigInt
from schemas.settlements import SettlementAdminQueries
from schemas.view import view


@strawberry.type
class BacktestFigure:
    """A figure of a back-test by its name."""

    name: str
    value: BigInt


@view(of=Backtest, name="DraftBacktest")
class BacktestType:
    """The replay of a draft over past acts."""

    job: strawberry.ID

    @strawberry.field
    @staticmethod
    def figures(parent: strawberry.Parent[Backtest]) -> list[BacktestFigure]:
        """Its main figures."""
        return [BacktestFigure(name=name, value=BigInt(value)) for name, value in sorted(parent.figures.items())]


@view(of=Draft, name="RuleDraft")
class RuleDraftType:
    """A text on its way into the rule book; the next step names the ``revision`` it was seen at."""

    id: strawberry.ID
    subject: Subject
    name: str
    stage: Stage
    revision: BigInt
    author: str
    approver: str | None
    retires: bool
    why_untested: str | None
    created_at: datetime
    changed_at: datetime
    published: BigInt | None
    problems: list[RuleProblemType]
    backtest: BacktestType | None

    @strawberry.field(graphql_type=RuleVersionType | None)
    @staticmethod
    def rule(parent: strawberry.Parent[Draft]) -> RuleVersion | None:
        """The version it proposes, where it is of a rule."""
        content = drafting.read(parent)
        return content if isinstance(content, RuleVersion) else None

    @strawberry.field(graphql_type=KindType | None)
    @staticmethod
    def kind(parent: strawberry.Parent[Draft]) -> Kind | None:
        """The kind it proposes, where it is of a kind."""
        content = drafting.read(parent)
        return content if isinstance(content, Kind) else None

    @strawberry.field(graphql_type=CampaignType | None)
    @staticmethod
    def campaign(parent: strawberry.Parent[Draft]) -> Campaign | None:
        """The campaign it proposes, where it is of one."""
        content = drafting.read(parent)
        return content if isinstance(content, Campaign) else None

    @strawberry.field(graphql_type=list[LimitType] | None)
    @staticmethod
    def limits(parent: strawberry.Parent[Draft]) -> tuple[Limit, ...] | None:
        """The programme's caps and budgets it proposes, where it is of them."""
        content = drafting.read(parent)
        return content.limits if isinstance(content, Limits) else None

    @strawberry.field
    @staticmethod
    async def affected(parent: strawberry.Parent[Draft], info: Info) -> BigInt | None:
        """How many settled acts a restatement would concern; null unless it was published for the past."""
        count = await info.context.services.rule_desk.count_affected(parent)
        return None if count is None else BigInt(count)


@view(of=Change, name="RuleChange")
class ChangeType:
    """One field before and after a step, as JSON; null where it was not there."""

    path: str
    before: str | None
    after: str | None


@view(of=LogEntry, name="RuleLogEntry")
class LogEntryType:
    """One step: when, who, of what, why, what it changed; ``revision`` is the publication it led to."""

    at: datetime
    actor: str
    step: Step
    subject: str
    draft: strawberry.ID | None
    reason: str
    revision: BigInt | None
    difference: list[ChangeType]


@strawberry.input
class DraftRuleInput:
    """A rule from scratch, or what of the published one is to change."""

    idempotency_key: str
    rule: RuleInput
    reason: str | None = None


@strawberry.input
class DraftKindInput:
    """A new kind of act."""

    idempotency_key: str
    kind: KindInput
    reason: str | None = None


@strawberry.input
class CreateCampaignInput:
    """A campaign, new or changed."""

    idempotency_key: str
    campaign: CampaignInput
    reason: str | None = None


@strawberry.input
class DraftLimitsInput:
    """The programme's own caps and budgets, all of them."""

    idempotency_key: str
    limits: LimitsInput
    reason: str | None = None


@strawberry.input
class EditRuleDraftInput:
    """What is to change in a draft as it was seen at ``revision``: one of its subjects."""

    idempotency_key: str
    draft: strawberry.ID
    revision: BigInt
    rule: RuleInput | None = None
    kind: KindInput | None = None
    campaign: CampaignInput | None = None
    limits: LimitsInput | None = None
    reason: str | None = None


@strawberry.input
class RuleDraftStepInput:
    """A step with a draft as it was seen at ``revision``."""

    idempotency_key: str
    draft: strawberry.ID
    revision: BigInt
    reason: str | None = None


@strawberry.input
class SubmitRuleInput(RuleDraftStepInput):
    """Submitting a draft; a rule without a back-test needs the reason why."""

    why_untested: str | None = None


@strawberry.input
class PublishRuleInput(RuleDraftStepInput):
    """Publishing an approved draft, a rule with its period: from now on, and open, where nothing is said."""

    valid_from: datetime | None = None
    valid_to: datetime | None = None


@strawberry.input
class RetireRuleInput:
    """Switching a rule off from ``at`` on (once published, where nothing is said), and why, for citizens to read."""

    idempotency_key: str
    rule: str
    why: BilingualInput
    at: datetime | None = None
    reason: str | None = None


ANY = (IdempotencyConflictError, InvalidInputError)
STEP = (refusals.UnknownDraftError, refusals.StaleDraftError, refusals.WrongStageError, *ANY)
WRITING = (refusals.RuleProblemsError, refusals.ForeignProfileError)
PERIOD = (refusals.PeriodInPastError, refusals.PeriodOverlapError)


def _result(name: str, *refused: Any) -> Any:
    return result_union(f"{name}Result", RuleDraftType, *refused)


DraftRuleResult: Any = _result("DraftRule", *WRITING, *ANY)
DraftKindResult: Any = _result("DraftKind", *WRITING, *ANY)
CreateCampaignResult: Any = _result("CreateCampaign", *WRITING, *ANY)
DraftLimitsResult: Any = _result("DraftLimits", *WRITING, *ANY)
EditRuleDraftResult: Any = _result("EditRuleDraft", *WRITING, *STEP)
ValidateRuleResult: Any = _result("ValidateRule", *STEP)
SubmitRuleResult: Any = _result("SubmitRule", refusals.NotBacktestedError, *STEP)
ApproveRuleResult: Any = _result("ApproveRule", refusals.SamePersonError, *STEP)
RejectRuleResult: Any = _result("RejectRule", *STEP)
PublishRuleResult: Any = _result("PublishRule", refusals.RuleProblemsError, *PERIOD, refusals.PeriodGapError, *STEP)
RetireRuleResult: Any = _result("RetireRule", refusals.UnknownRuleError, refusals.RuleProblemsError, *PERIOD, *ANY)
DiscardRuleDraftResult: Any = _result("DiscardRuleDraft", *STEP)


def _order(given: RuleDraftStepInput | EditRuleDraftInput) -> Order:
    return Order(key=given.idempotency_key, draft=given.draft, seen=given.revision, reason=given.reason or "")


@strawberry.type
class RuleDraftsMutation:
    """Mutations on drafts of rules."""

    @strawberry.mutation(graphql_type=DraftRuleResult)
    async def draft_rule(self, info: Info, input: DraftRuleInput) -> Draft:  # noqa: A002 - the contract's name
        """Begin a draft of a rule: from scratch, or from the version in force; for administrators."""
        return await _draft(info, Subject.RULE, input.rule, input)

    @strawberry.mutation(graphql_type=DraftKindResult)
    async def draft_kind(self, info: Info, input: DraftKindInput) -> Draft:  # noqa: A002
        """Begin a draft of a new kind of act; for administrators."""
        return await _draft(info, Subject.KIND, input.kind, input)

    @strawberry.mutation(graphql_type=CreateCampaignResult)
    async def create_campaign(self, info: Info, input: CreateCampaignInput) -> Draft:  # noqa: A002
        """Begin a draft of a campaign, which is approved and published like a rule; for administrators."""
        return await _draft(info, Subject.CAMPAIGN, input.campaign, input)

    @strawberry.mutation(graphql_type=DraftLimitsResult)
    async def draft_limits(self, info: Info, input: DraftLimitsInput) -> Draft:  # noqa: A002
        """Begin a draft of the programme's own caps and budgets; for administrators."""
        return await _draft(info, Subject.LIMITS, input.limits, input)

    @strawberry.mutation(graphql_type=EditRuleDraftResult)
    async def edit_rule_draft(self, info: Info, input: EditRuleDraftInput) -> Draft:  # noqa: A002
        """Write a draft anew; it is validated, back-tested and approved again; for administrators."""
        principal = info.context.require_principal()
        texts = {
            Subject.RULE: input.rule,
            Subject.KIND: input.kind,
            Subject.CAMPAIGN: input.campaign,
            Subject.LIMITS: input.limits,
        }
        given = [(subject, text) for subject, text in texts.items() if text is not None]
        if len(given) != 1:
            names = "rule / kind / campaign / limits"
            raise InvalidInputError("draft", Text(f"须且只须给出 {names} 之一", f"give exactly one of {names}"))
        ((subject, text),) = given
        return await info.context.services.rule_desk.edit(principal, _order(input), subject, to_wording(text))

    @strawberry.mutation(graphql_type=ValidateRuleResult)
    async def validate_rule(self, info: Info, input: RuleDraftStepInput) -> Draft:  # noqa: A002
        """Hold a draft against the rule book; it lists what stands against it; for administrators."""
        principal = info.context.require_principal()
        return await info.context.services.rule_desk.validate(principal, _order(input))

    @strawberry.mutation(graphql_type=SubmitRuleResult)
    async def submit_rule(self, info: Info, input: SubmitRuleInput) -> Draft:  # noqa: A002
        """Ask others to approve a validated draft; for administrators."""
        principal = info.context.require_principal()
        desk = info.context.services.rule_desk
        return await desk.submit(principal, _order(input), why_untested=input.why_untested)

    @strawberry.mutation(graphql_type=ApproveRuleResult)
    async def approve_rule(self, info: Info, input: RuleDraftStepInput) -> Draft:  # noqa: A002
        """Agree to a draft that others wrote and submitted; for administrators and reviewers."""
        principal = info.context.require_principal()
        return await info.context.services.rule_desk.approve(principal, _order(input))

    @strawberry.mutation(graphql_type=RejectRuleResult)
    async def reject_rule(self, info: Info, input: RuleDraftStepInput) -> Draft:  # noqa: A002
        """Turn a submitted draft down, and say why; for administrators and reviewers."""
        principal = info.context.require_principal()
        return await info.context.services.rule_desk.reject(principal, _order(input))

    @strawberry.mutation(graphql_type=PublishRuleResult)
    async def publish_rule(self, info: Info, input: PublishRuleInput) -> Draft:  # noqa: A002
        """Put an approved draft into the rule book; for administrators."""
        principal = info.context.require_principal()
        desk = info.context.services.rule_desk
        return await desk.publish(principal, _order(input), valid_from=input.valid_from, valid_to=input.valid_to)

    @strawberry.mutation(graphql_type=RetireRuleResult)
    async def retire_rule(self, info: Info, input: RetireRuleInput) -> Draft:  # noqa: A002
        """Propose to switch a rule off, which others approve; for administrators."""
        principal = info.context.require_principal()
        why = Text(input.why.zh, input.why.en)
        desk = info.context.services.rule_desk
        return await desk.retire(principal, input.rule, input.at, why, key=input.idempotency_key, reason=input.reason)

    @strawberry.mutation(graphql_type=DiscardRuleDraftResult)
    async def discard_rule_draft(self, info: Info, input: RuleDraftStepInput) -> Draft:  # noqa: A002
        """Give a draft up for good; for administrators."""
        principal = info.context.require_principal()
        return await info.context.services.rule_desk.discard(principal, _order(input))


async def _draft(info: Info, subject: Subject, text: Any, given: Any) -> Draft:
    principal = info.context.require_principal()
    desk = info.context.services.rule_desk
    return await desk.draft(principal, subject, to_wording(text), key=given.idempotency_key, reason=given.reason)


@strawberry.type
class AdminQuery(
    BacktestQueries,
    BatchAdminQueries,
    BenefitAdminQueries,
    DisputeQueries,
    EnterpriseAdminQueries,
    FundAdminQueries,
    MerchantAdminQueries,
    OfferAdminQueries,
    ReviewQueries,
    RestatementQueries,
    SettlementAdminQueries,
):
    """What staff read."""

    @strawberry.field(graphql_type=RuleDraftType | None)
    async def rule_draft(self, info: Info, id: strawberry.ID) -> Draft | None:  # noqa: A002 - the contract's name
        """One draft."""
        return await info.context.services.rule_desk.find_draft(info.context.require_principal(), id)

    @strawberry.field(graphql_type=Connection[RuleDraftType])
    async def rule_drafts(
        self,
        info: Info,
        stage: Stage | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Draft]:
        """Drafts in one stage or in any, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.rule_desk.list_drafts, principal, stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda draft: (draft.created_at, draft.id))

    @strawberry.field(graphql_type=Connection[LogEntryType])
    async def rule_log(
        self,
        info: Info,
        subject: str | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[LogEntry]:
        """What was done with one subject (``rule:R-MET1``) or with any, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.rule_desk.list_log, principal, subject)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda entry: (entry.at, entry.id))

    @strawberry.field(graphql_type=list[CampaignType])
    async def campaigns(self, info: Info) -> list[Campaign]:
        """Campaigns that have not ended, each as published last."""
        book, now = await info.context.book(), info.context.services.clock.now()
        return [campaign for campaign in book.latest_campaigns() if campaign.ends_at > now]


@strawberry.type
class AdminQueries:
    """The way to what staff read."""

    @strawberry.field
    def admin(self, info: Info) -> AdminQuery:
        """What staff read; FORBIDDEN for anybody else."""
        require_staff(info.context.require_principal(), ANY_STAFF, Text("管理数据", "what staff read"))
        return AdminQuery()
