"""Retirement: credits leave for ever, certificates, and the public register of them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.ledger.model import Asset, OwnerId
from backend.market.pooling.model import ActsSummary, KindSum
from backend.market.retirement import errors
from backend.market.retirement.model import Beneficiary, Certificate, CertificateId, CreditFacts, Origin, Retiring
from backend.market.retirement.wording import said_grams
from backend.market.serials.model import SerialRange
from backend.market.traders import owner_of
from schemas.context import Info
from schemas.enums import RetirementPurpose
from schemas.refusals import result_union
from schemas.relay import Connection, Node, connect_by_moment, local_id_of, page_span
from schemas.scalars import BigInt
from schemas.serials import SerialRangeType
from schemas.view import view

# Ranges shown of a certificate; its receipt has them all.
MAX_RANGES = 100


@view(of=Beneficiary, name="Beneficiary")
class BeneficiaryType:
    """Whose emissions retired credits make up for."""

    name: str
    name_zh: str | None
    credit_code: str | None


@view(of=KindSum, name="RetiredKind")
class RetiredKindType:
    """What acts of one kind gave of a certificate's grams."""

    kind: str
    acts: BigInt

    @strawberry.field
    @staticmethod
    def quantity_g(parent: strawberry.Parent[KindSum]) -> BigInt:
        """Their grams."""
        return BigInt(parent.grams)

    @strawberry.field
    @staticmethod
    async def name(parent: strawberry.Parent[KindSum], info: Info) -> str:
        """The kind's name, in the reader's language."""
        kind = (await info.context.book()).kinds.get(parent.kind)
        if kind is None:
            return parent.kind
        return kind.name_zh if info.context.language.startswith("zh") else kind.name_en


@view(of=ActsSummary, name="RetiredActs")
class RetiredActsType:
    """The acts behind a certificate's serials: by kind, largest first, and when they happened."""

    acts: BigInt
    citizens: BigInt
    first: datetime
    last: datetime

    @strawberry.field(graphql_type=list[RetiredKindType])
    @staticmethod
    def kinds(parent: strawberry.Parent[ActsSummary]) -> list[KindSum]:
        """What each kind gave."""
        return list(parent.kinds)


@view(of=CreditFacts, name="RetiredCreditFacts")
class CreditFactsType:
    """What the registry says of a credit; the report's digest is SHA-256 in hex."""

    vintage: int
    verifier: str
    methodologies: list[str]

    @strawberry.field
    @staticmethod
    def project(parent: strawberry.Parent[CreditFacts], info: Info) -> str:
        """The project's name, in the reader's language."""
        return parent.project.said(info.context.language)

    @strawberry.field
    @staticmethod
    def report_hash(parent: strawberry.Parent[CreditFacts]) -> str:
        """Digest of the verifier's report."""
        return parent.report


@view(of=Origin, name="CertificateOrigin")
class OriginType:
    """Where a certificate's credits come from: what the registry says of them, and the acts behind the very serials."""

    @strawberry.field(graphql_type=CreditFactsType)
    @staticmethod
    def facts(parent: strawberry.Parent[Origin]) -> CreditFacts:
        """What the registry says."""
        return parent.facts

    @strawberry.field(graphql_type=RetiredActsType)
    @staticmethod
    def acts(parent: strawberry.Parent[Origin]) -> ActsSummary:
        """The acts."""
        return parent.acts


@view(of=Certificate, name="Certificate")
class CertificateType(Node):
    """Says for ever that credits have left: public, but for who retired them, where they did not wish to be named."""

    number: str
    owner_name: str | None
    purpose: RetirementPurpose
    statement: str
    credit: str
    at: datetime

    @strawberry.field(graphql_type=BeneficiaryType)
    @staticmethod
    def beneficiary(parent: strawberry.Parent[Certificate]) -> Beneficiary:
        """For whom."""
        return parent.beneficiary

    @strawberry.field
    @staticmethod
    def quantity_g(parent: strawberry.Parent[Certificate]) -> BigInt:
        """How many grams CO2e."""
        return BigInt(parent.grams)

    @strawberry.field
    @staticmethod
    def amount(parent: strawberry.Parent[Certificate], info: Info) -> str:
        """The same as people say it, in the reader's language: `1.25 t`."""
        return said_grams(parent.grams, info.context.language)

    @strawberry.field(graphql_type=list[SerialRangeType])
    @staticmethod
    def serials(parent: strawberry.Parent[Certificate]) -> list[SerialRange]:
        """Which serials, the first hundred ranges; all are in the receipt."""
        return list(parent.serials[:MAX_RANGES])

    @strawberry.field
    @staticmethod
    def ranges(parent: strawberry.Parent[Certificate]) -> int:
        """How many ranges of serials there are."""
        return len(parent.serials)

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Certificate]) -> str:
        """Id of the transaction in the book."""
        return parent.transaction

    @strawberry.field(graphql_type=OriginType | None)
    @staticmethod
    async def origin(parent: strawberry.Parent[Certificate], info: Info) -> Origin | None:
        """Where its credits come from; null while their batch is still being issued."""
        return await info.context.services.market.retirement.origin_of(parent)

    @strawberry.field
    @staticmethod
    async def stands(parent: strawberry.Parent[Certificate], info: Info) -> bool:
        """Whether the book has this very retirement, of exactly these serials."""
        return await info.context.services.market.retirement.stands(parent)

    @strawberry.field
    @staticmethod
    def url(parent: strawberry.Parent[Certificate]) -> str:
        """Path of its public page; with `.pdf` and `.png` behind it, of its files (`?lang=zh` or `en`)."""
        return f"/certificates/{parent.number}"

    @strawberry.field
    @staticmethod
    def receipt_url(parent: strawberry.Parent[Certificate]) -> str | None:
        """Path of its receipt, which verifies offline; there some minute after the retirement.

        Null where a citizen who is not named retired the credits: the receipt tells who, so only they read it.
        """
        return f"/certificates/{parent.number}/receipt.json" if parent.has_public_receipt else None


@strawberry.input
class BeneficiaryInput:
    """Whose emissions are made up for, in 1–120 characters; the code is that of GB 32100-2015."""

    name: str
    name_zh: str | None = None
    credit_code: str | None = None


@strawberry.input
class RetireCreditsInput:
    """Grams of a credit (its asset or instrument) to be used up for ever.

    The statement is at most 500 characters on one line. Whoever retires is named on the certificate only where `named`
    says so. An administrator names the pool (batch) in whose name they act.
    """

    idempotency_key: str
    credit: strawberry.ID
    quantity_g: BigInt
    beneficiary: BeneficiaryInput
    purpose: RetirementPurpose
    statement: str = ""
    named: bool = False
    pool: str | None = None


RetireCreditsResult: Any = result_union(
    "RetireCreditsResult",
    CertificateType,
    errors.UnknownCreditError,
    errors.InsufficientCreditsError,
    errors.TooFragmentedError,
    IdempotencyConflictError,
    InvalidInputError,
)


def to_beneficiary(given: BeneficiaryInput) -> Beneficiary:
    """The beneficiary that an input gives."""
    return Beneficiary(given.name, given.name_zh, given.credit_code)


def to_credit(given: str) -> Asset:
    """The credit that an asset's name or an instrument's global id gives."""
    return Asset(local_id_of("Instrument", given))


@strawberry.type
class RetirementMutation:
    """Mutations that use credits up."""

    @strawberry.mutation(graphql_type=RetireCreditsResult)
    async def retire_credits(self, info: Info, input: RetireCreditsInput) -> Certificate:  # noqa: A002
        """Use up credits for ever; for whoever owns them: citizens, enterprises, administrators for a pool."""
        principal = info.context.require_principal()
        asked = Retiring(
            credit=to_credit(input.credit),
            grams=int(input.quantity_g),
            beneficiary=to_beneficiary(input.beneficiary),
            purpose=input.purpose,
            statement=input.statement,
            is_named=input.named,
        )
        retirement = info.context.services.market.retirement
        return await retirement.retire(principal, asked, key=input.idempotency_key, pool=input.pool)


async def connect_certificates(
    info: Info,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    *,
    owner: OwnerId | None = None,
    credit: str | None = None,
    beneficiary: str | None = None,
) -> Connection[Certificate]:
    """A page of certificates, newest first."""
    list_page = partial(
        info.context.services.market.retirement.list_certificates,
        owner=owner,
        credit=to_credit(credit) if credit is not None else None,
        beneficiary=beneficiary,
    )
    return await connect_by_moment(page_span(first, after, last, before), list_page, lambda one: (one.at, one.id))


@strawberry.type
class RetirementQuery:
    """What anybody reads of retirement, and one's own certificates."""

    @strawberry.field(graphql_type=CertificateType | None)
    async def certificate(self, info: Info, number: str) -> Certificate | None:
        """The certificate of that number, in any case, with O for 0, I or L for 1; for anybody."""
        return await info.context.services.market.retirement.find_numbered(number)

    @strawberry.field(graphql_type=Connection[CertificateType])
    async def retirements(
        self,
        info: Info,
        credit: strawberry.ID | None = None,
        beneficiary: str | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Certificate]:
        """The public register, newest first: all, or those of a credit, or of beneficiaries whose name begins so."""
        return await connect_certificates(info, first, after, last, before, credit=credit, beneficiary=beneficiary)

    @strawberry.field
    async def retired_g(
        self, info: Info, credit: strawberry.ID | None = None, beneficiary: str | None = None
    ) -> BigInt:
        """How many grams these retirements are together."""
        _, grams = await info.context.services.market.retirement.total(
            credit=to_credit(credit) if credit is not None else None, beneficiary=beneficiary
        )
        return BigInt(grams)

    @strawberry.field(graphql_type=Connection[CertificateType])
    async def certificates(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Certificate]:
        """One's own certificates, newest first; for citizens and enterprises."""
        owner = owner_of(info.context.require_principal())
        return await connect_certificates(info, first, after, last, before, owner=owner)


async def find_certificate(info: Info, local_id: str) -> Certificate | None:
    """The certificate of that id, for anybody."""
    return await info.context.services.market.retirement.find(CertificateId(local_id))
