"""Back-tests: replaying a draft, a profile or a published version over past acts, and what that gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import date, datetime
from functools import partial
from typing import Any

import strawberry

from backend.actions.backtesting import errors
from backend.actions.backtesting.model import (
    GOING,
    ORDER_OF_BUDGETS,
    Backtest,
    Comparison,
    Cuts,
    Days,
    Difference,
    Mover,
    Result,
    Row,
    Side,
    Trial,
)
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.rules.refusals import UnknownDraftError
from backend.runtime import backtest_channel
from schemas.context import Info
from schemas.enums import BacktestState
from schemas.refusals import result_union
from schemas.relay import Connection, connect_by_moment, page_span
from schemas.scalars import BigInt
from schemas.view import view

RECHECK_S = 5


@view(of=Comparison, name="BacktestSums")
class SumsType:
    """Sums before and after: acts credited, milligrams CO2e quantified and recognised, points."""

    acts: BigInt
    credited_before: BigInt
    credited_after: BigInt
    quantified_mg_before: BigInt
    quantified_mg_after: BigInt
    recognised_mg_before: BigInt
    recognised_mg_after: BigInt
    points_before: BigInt
    points_after: BigInt


@view(of=Row, name="BacktestRow")
class RowType:
    """The sums of one kind, district, local day, or tenth of the citizens by points before (1: the fewest)."""

    name: str
    citizens: BigInt | None
    sums: SumsType


@view(of=Mover, name="BacktestMover")
class MoverType:
    """A citizen, by a pseudonym, and the points more or fewer."""

    pseudonym: str
    points: BigInt


@view(of=Cuts, name="BacktestCuts")
class CutsType:
    """How many acts a cap or a campaign's budget cut or refused; named by its group."""

    name: str
    before: BigInt
    after: BigInt


@view(of=Side, name="BacktestSide")
class SideType:
    """What one act came to."""

    status: str
    reduction_mg: BigInt
    points: BigInt

    @strawberry.field
    @staticmethod
    def lines(parent: strawberry.Parent[Side], info: Info) -> list[str]:
        """How, line by line, in the reader's language."""
        return [line.said(info.context.language) for line in parent.lines]


@view(of=Difference, name="BacktestDifference")
class DifferenceType:
    """One act on which the trial differs from what was posted."""

    action: strawberry.ID
    kind: str
    before: SideType
    after: SideType


@view(of=Result, name="BacktestResult")
class ResultType:
    """What a back-test found; citizens gain, lose or stay by points."""

    total: SumsType
    kinds: list[RowType]
    districts: list[RowType]
    days: list[RowType]
    deciles: list[RowType]
    gaining: BigInt
    losing: BigInt
    unchanged: BigInt
    most_gaining: list[MoverType]
    most_losing: list[MoverType]
    cuts: list[CutsType]
    to_review: BigInt
    kept: BigInt
    waiting: BigInt
    unreadable: BigInt
    points_liability: BigInt
    sample: list[DifferenceType]

    @strawberry.field
    @staticmethod
    def remark(parent: strawberry.Parent[Result], info: Info) -> str:  # noqa: ARG004 - the same for all
        """How far the figures are to be trusted."""
        return ORDER_OF_BUDGETS.said(info.context.language)


@view(of=Backtest, name="Backtest")
class BacktestType:
    """A back-test: of which trial, over which local days, how far; ``parts`` of them ``done``."""

    id: strawberry.ID
    actor: str
    state: BacktestState
    revision: BigInt
    at: datetime
    ended_at: datetime | None
    done: int
    parts: int
    attached: bool
    failure: str | None
    result: ResultType | None

    @strawberry.field
    @staticmethod
    def draft(parent: strawberry.Parent[Backtest]) -> strawberry.ID | None:
        """The draft it tries, if it tries one."""
        return None if parent.trial.draft is None else strawberry.ID(parent.trial.draft)

    @strawberry.field
    @staticmethod
    def profile(parent: strawberry.Parent[Backtest]) -> str | None:
        """The profile it tries, if it tries one."""
        return parent.trial.profile

    @strawberry.field
    @staticmethod
    def rule(parent: strawberry.Parent[Backtest]) -> str | None:
        """The rule whose published version it tries, if it tries one."""
        return parent.trial.rule

    @strawberry.field
    @staticmethod
    def version(parent: strawberry.Parent[Backtest]) -> BigInt | None:
        """The published version it tries, if it tries one."""
        return None if parent.trial.version is None else BigInt(parent.trial.version)

    @strawberry.field(name="from")
    @staticmethod
    def begin(parent: strawberry.Parent[Backtest]) -> date:
        """The first local day."""
        return parent.days.begin

    @strawberry.field(name="to")
    @staticmethod
    def end(parent: strawberry.Parent[Backtest]) -> date:
        """The local day after the last."""
        return parent.days.end


@strawberry.input
class BacktestRuleInput:
    """What to try (a draft, a profile, or a rule and version) over the local days ``from`` until before ``to``."""

    idempotency_key: str
    begin: date = strawberry.field(name="from")
    end: date = strawberry.field(name="to")
    draft: strawberry.ID | None = None
    profile: str | None = None
    rule: str | None = None
    version: BigInt | None = None


@strawberry.input
class CancelBacktestInput:
    """The back-test to end."""

    idempotency_key: str
    backtest: strawberry.ID


BacktestRuleResult: Any = result_union(
    "BacktestRuleResult",
    BacktestType,
    errors.BacktestPeriodError,
    errors.UnknownVersionError,
    errors.UnknownProfileError,
    UnknownDraftError,
    IdempotencyConflictError,
    InvalidInputError,
)
CancelBacktestResult: Any = result_union(
    "CancelBacktestResult",
    BacktestType,
    errors.UnknownBacktestError,
    errors.BacktestEndedError,
    IdempotencyConflictError,
    InvalidInputError,
)


@strawberry.type
class BacktestsMutation:
    """Mutations on back-tests."""

    @strawberry.mutation(graphql_type=BacktestRuleResult)
    async def backtest_rule(self, info: Info, input: BacktestRuleInput) -> Backtest:  # noqa: A002 - the contract's name
        """Begin to replay a draft, a profile or a published version over past acts; for administrators."""
        principal = info.context.require_principal()
        trial = Trial(draft=input.draft, profile=input.profile, rule=input.rule, version=input.version)
        backtesting = info.context.services.backtesting
        return await backtesting.start(principal, trial, Days(input.begin, input.end), key=input.idempotency_key)

    @strawberry.mutation(graphql_type=CancelBacktestResult)
    async def cancel_backtest(self, info: Info, input: CancelBacktestInput) -> Backtest:  # noqa: A002
        """End a back-test that is not over; for administrators."""
        principal = info.context.require_principal()
        return await info.context.services.backtesting.cancel(principal, input.backtest, key=input.idempotency_key)


@strawberry.type
class BacktestQueries:
    """What administrators read of back-tests."""

    @strawberry.field(graphql_type=BacktestType | None)
    async def backtest(self, info: Info, id: strawberry.ID) -> Backtest | None:  # noqa: A002 - the contract's name
        """One back-test."""
        return await info.context.services.backtesting.find(info.context.require_principal(), id)

    @strawberry.field(graphql_type=Connection[BacktestType])
    async def backtests(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Backtest]:
        """Back-tests, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        list_page = partial(info.context.services.backtesting.list_backtests, principal)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda job: (job.at, job.id))


@strawberry.type
class BacktestsSubscription:
    """Subscriptions on back-tests."""

    @strawberry.subscription(graphql_type=BacktestType)
    async def backtest_progress(
        self,
        info: Info,
        id: strawberry.ID,  # noqa: A002 - the contract's name
    ) -> AsyncGenerator[Backtest, None]:
        """A back-test as it goes on, until it is over; for administrators."""
        services = info.context.services
        seen: Backtest | None = None
        async with services.channels.listen(backtest_channel(id)) as events:
            while seen is None or seen.state in GOING:
                # Each time anew: a websocket can outlive its token.
                found = await services.backtesting.find(info.context.require_principal(), id)
                if found is None:
                    return
                if found != seen:
                    seen = found
                    yield found
                else:
                    await _next_event(events)


async def _next_event(events: asyncio.Queue[Any]) -> None:
    """Wait until the back-test went on, or a while: news may be lost."""
    try:
        async with asyncio.timeout(RECHECK_S):
            await events.get()
    except TimeoutError:
        return
    while not events.empty():
        events.get_nowait()
