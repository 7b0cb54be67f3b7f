"""Consent to pooling and what came of it, as citizens see it."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.identity.model import Citizen
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.kernel.ids import CitizenId
from backend.ledger.model import CREDIT, Asset
from backend.market.pooling import errors
from backend.market.pooling.model import WORDING, WORDINGS, Batch, Consent, Origin, Stake, Trace
from schemas.batches import BatchType
from schemas.context import Info
from schemas.enums import Benefit, Category, ContributionStage
from schemas.refusals import result_union
from schemas.relay import Connection, connect_by_moment, local_id_of, page_span, to_global_id
from schemas.scalars import BigInt
from schemas.view import view


def _scenarios(consent: Consent) -> list[Category] | None:
    return None if consent.scenarios is None else sorted(consent.scenarios, key=list(Category).index)


@view(of=Consent, name="PoolingConsent")
class ConsentType:
    """One version of a citizen's authorisation; ``until`` is null for the one in force."""

    benefit: Benefit
    since: datetime
    until: datetime | None

    @strawberry.field
    @staticmethod
    def scenarios(parent: strawberry.Parent[Consent]) -> list[Category] | None:
        """What is pooled; null means everything."""
        return _scenarios(parent)

    @strawberry.field
    @staticmethod
    def wording_version(parent: strawberry.Parent[Consent]) -> int:
        """The version of what was agreed to."""
        return parent.wording

    @strawberry.field
    @staticmethod
    def wording(parent: strawberry.Parent[Consent], info: Info) -> str:
        """What was agreed to, in the reader's language."""
        return WORDINGS[parent.wording].said(info.context.language)


@strawberry.type(name="Pooling")
class PoolingType:
    """Whether a citizen authorised the pooling of their reductions."""

    citizen: strawberry.Private[CitizenId]
    consent: strawberry.Private[Consent | None]

    @strawberry.field
    def authorised(self) -> bool:
        """Whether an authorisation is in force."""
        return self.consent is not None

    @strawberry.field
    def scenarios(self) -> list[Category] | None:
        """What is pooled; null means everything, or nothing where nothing is authorised."""
        return _scenarios(self.consent) if self.consent else None

    @strawberry.field
    def benefit(self) -> Benefit | None:
        """As what the citizen takes their part of a pool's proceeds."""
        return self.consent.benefit if self.consent else None

    @strawberry.field
    def since(self) -> datetime | None:
        """Since when it is in force."""
        return self.consent.since if self.consent else None

    @strawberry.field
    def wording(self, info: Info) -> str:
        """What a citizen agrees to today, in the reader's language."""
        return WORDINGS[WORDING].said(info.context.language)

    @strawberry.field(graphql_type=Connection[ConsentType])
    async def history(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Consent]:
        """Every version of the authorisation, newest first; at most 100 a page."""
        list_page = partial(info.context.services.market.pooling.consents.list_history, self.citizen)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda consent: (consent.since, consent.id))


@view(of=Stake, name="Contribution")
class ContributionType:
    """What a citizen gave to a batch: below the yearly threshold the pool's share, above it the citizen's own."""

    @strawberry.field
    @staticmethod
    def id(parent: strawberry.Parent[Stake]) -> strawberry.ID:
        """Opaque id of the contribution."""
        return to_global_id("Contribution", parent.contribution.id)

    @strawberry.field(graphql_type=BatchType)
    @staticmethod
    def batch(parent: strawberry.Parent[Stake]) -> Batch:
        """The batch it is in."""
        return parent.batch

    @strawberry.field
    @staticmethod
    def stage(parent: strawberry.Parent[Stake]) -> ContributionStage:
        """Whether it stands."""
        return parent.contribution.stage

    @strawberry.field
    @staticmethod
    def benefit(parent: strawberry.Parent[Stake]) -> Benefit:
        """As what the citizen takes their part of the pool's proceeds."""
        return parent.contribution.benefit

    @strawberry.field
    @staticmethod
    def given_at(parent: strawberry.Parent[Stake]) -> datetime:
        """When it was gathered."""
        return parent.contribution.given_at

    @strawberry.field
    @staticmethod
    def acts(parent: strawberry.Parent[Stake]) -> BigInt:
        """How many acts."""
        return BigInt(parent.contribution.acts)

    @strawberry.field
    @staticmethod
    def quantified_mg(parent: strawberry.Parent[Stake]) -> BigInt:
        """Milligrams CO2e given."""
        return BigInt(parent.contribution.mg)

    @strawberry.field
    @staticmethod
    def pool_mg(parent: strawberry.Parent[Stake]) -> BigInt:
        """Milligrams below the threshold."""
        return BigInt(parent.contribution.pool_mg)

    @strawberry.field
    @staticmethod
    def own_mg(parent: strawberry.Parent[Stake]) -> BigInt:
        """Milligrams above the threshold."""
        return BigInt(parent.contribution.own_mg)

    @strawberry.field
    @staticmethod
    def deducted_mg(parent: strawberry.Parent[Stake]) -> BigInt | None:
        """Milligrams that the verifier took off; known once it is issued."""
        return _known(parent.contribution.deducted_mg)

    @strawberry.field
    @staticmethod
    def residual_mg(parent: strawberry.Parent[Stake]) -> BigInt | None:
        """Milligrams that are left in the pool, below a tonne or a gram; known once it is issued."""
        return _known(parent.contribution.residual_mg)

    @strawberry.field
    @staticmethod
    def pool_g(parent: strawberry.Parent[Stake]) -> BigInt:
        """Grams issued to the pool, of which the citizen has a part."""
        return BigInt(parent.contribution.pool_g)

    @strawberry.field
    @staticmethod
    def own_g(parent: strawberry.Parent[Stake]) -> BigInt:
        """Grams issued to the citizen."""
        return BigInt(parent.contribution.own_g)

    @strawberry.field
    @staticmethod
    def pool_serials(parent: strawberry.Parent[Stake]) -> str | None:
        """Serials of the pool's share when it was issued: ``1-1000``."""
        return str(parent.contribution.pool.run) if parent.contribution.pool else None

    @strawberry.field
    @staticmethod
    def own_serials(parent: strawberry.Parent[Stake]) -> str | None:
        """Serials of the citizen's share when it was issued."""
        return str(parent.contribution.own.run) if parent.contribution.own else None


def _known(amount: int | None) -> BigInt | None:
    return None if amount is None else BigInt(amount)


@view(of=Origin, name="CreditOriginAct")
class OriginType:
    """An act behind a gram, and how many of its milligrams are in it."""

    mg: BigInt

    @strawberry.field
    @staticmethod
    def action_id(parent: strawberry.Parent[Origin]) -> strawberry.ID:
        """Global id of the action."""
        return to_global_id("Action", parent.act.action)

    @strawberry.field
    @staticmethod
    def kind(parent: strawberry.Parent[Origin]) -> str:
        """What sort of act."""
        return parent.act.kind

    @strawberry.field
    @staticmethod
    def occurred_at(parent: strawberry.Parent[Origin]) -> datetime:
        """When it happened."""
        return parent.act.occurred_at

    @strawberry.field
    @staticmethod
    def earning_transaction_id(parent: strawberry.Parent[Origin]) -> str:
        """The transaction that credited it."""
        return parent.act.earned

    @strawberry.field
    @staticmethod
    def pooling_transaction_id(parent: strawberry.Parent[Origin]) -> str:
        """The transaction that moved it into the batch."""
        return parent.act.pooled


@view(of=Trace, name="CreditOrigin")
class TraceType:
    """Where one gram of a credit came from."""

    @strawberry.field
    @staticmethod
    def contribution_id(parent: strawberry.Parent[Trace]) -> strawberry.ID:
        """Opaque id of the contribution it was issued for."""
        return to_global_id("Contribution", parent.contribution.id)

    @strawberry.field(graphql_type=list[OriginType])
    @staticmethod
    def acts(parent: strawberry.Parent[Trace]) -> list[Origin]:
        """The acts it is made of, nearly always one."""
        return list(parent.origins)

    @strawberry.field
    @staticmethod
    def issuance_transaction_id(parent: strawberry.Parent[Trace]) -> str:
        """The transaction that issued it."""
        return parent.issued


@strawberry.type
class CitizenPooling:
    """What a citizen shows of pooling."""

    @strawberry.field(graphql_type=PoolingType)
    @staticmethod
    async def pooling(parent: strawberry.Parent[Citizen], info: Info) -> PoolingType:
        """Whether the citizen authorised the pooling of their reductions."""
        info.context.require_sight(parent.id)
        return await _pooling(info, parent.id)

    @strawberry.field(graphql_type=Connection[ContributionType])
    @staticmethod
    async def contributions(
        parent: strawberry.Parent[Citizen],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Stake]:
        """What the citizen gave to batches, newest first; at most 100 a page."""
        info.context.require_sight(parent.id)
        list_page = partial(info.context.services.market.pooling.batches.list_contributions, parent.id)
        span = page_span(first, after, last, before)
        return await connect_by_moment(
            span, list_page, lambda stake: (stake.contribution.given_at, stake.contribution.id)
        )


async def _pooling(info: Info, citizen: CitizenId) -> PoolingType:
    consent = await info.context.services.market.pooling.consents.find(citizen)
    return PoolingType(citizen=citizen, consent=consent)


@strawberry.input
class AuthorisePoolingInput:
    """What may be pooled (null: everything), and as what the proceeds return."""

    idempotency_key: str
    benefit: Benefit
    scenarios: list[Category] | None = None


@strawberry.input
class WithdrawPoolingInput:
    """Nothing more to say."""

    idempotency_key: str


@strawberry.input
class WithdrawContributionInput:
    """The batch from which to take everything back."""

    idempotency_key: str
    batch: strawberry.ID


ANY = (IdempotencyConflictError, InvalidInputError)
AuthorisePoolingResult: Any = result_union("AuthorisePoolingResult", PoolingType, *ANY)
WithdrawPoolingResult: Any = result_union("WithdrawPoolingResult", PoolingType, errors.NotAuthorisedError, *ANY)
WithdrawContributionResult: Any = result_union(
    "WithdrawContributionResult",
    ContributionType,
    errors.UnknownBatchError,
    errors.NoContributionError,
    errors.WrongBatchStageError,
    errors.ContributionBoundError,
    *ANY,
)


@strawberry.type
class PoolingMutation:
    """What citizens decide of pooling."""

    @strawberry.mutation(graphql_type=AuthorisePoolingResult)
    async def authorise_pooling(self, info: Info, input: AuthorisePoolingInput) -> PoolingType:  # noqa: A002
        """Authorise the pooling of one's reductions from now on, in place of what was authorised; for citizens."""
        principal = info.context.require_principal()
        consents = info.context.services.market.pooling.consents
        citizen = await consents.authorise(principal, input.scenarios, input.benefit, key=input.idempotency_key)
        return await _pooling(info, citizen)

    @strawberry.mutation(graphql_type=WithdrawPoolingResult)
    async def withdraw_pooling(self, info: Info, input: WithdrawPoolingInput) -> PoolingType:  # noqa: A002
        """Withdraw the authorisation for the future; what is in batches stays there; for citizens."""
        principal = info.context.require_principal()
        consents = info.context.services.market.pooling.consents
        return await _pooling(info, await consents.withdraw(principal, key=input.idempotency_key))

    @strawberry.mutation(graphql_type=WithdrawContributionResult)
    async def withdraw_contribution(self, info: Info, input: WithdrawContributionInput) -> Stake:  # noqa: A002
        """Take back all one gave to a batch that is not verified, for good; for citizens."""
        principal = info.context.require_principal()
        batches = info.context.services.market.pooling.batches
        return await batches.withdraw(principal, local_id_of(Batch.__name__, input.batch), key=input.idempotency_key)


@strawberry.type
class PoolingQuery:
    """Where credits came from."""

    @strawberry.field(graphql_type=TraceType | None)
    async def credit_origin(self, info: Info, credit: str, serial: BigInt) -> Trace | None:
        """The acts behind one gram of a credit (``credit:<batch>``); for staff, and the citizen whose acts it is."""
        principal = info.context.require_principal()
        asset = Asset(f"{CREDIT}{credit.removeprefix(CREDIT)}")
        return await info.context.services.market.pooling.origins.trace(principal, asset, int(serial))
