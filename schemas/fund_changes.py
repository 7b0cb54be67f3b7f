"""Changes of money: deposits that finance staff record, payouts that owners ask for, and who decides on them."""

from __future__ import annotations

from datetime import date
from typing import Any

import strawberry

from backend.actions.errors import UnknownCitizenError
from backend.identity.model import Citizen
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.ids import CitizenId
from backend.ledger.errors import HoldExpiredError, HoldNotActiveError, InsufficientFundsError, TooManyHoldsError
from backend.market.funds import errors
from backend.market.funds.model import (
    BankEntry,
    Deposit,
    DepositOrder,
    Enterprise,
    EnterpriseId,
    FundAccount,
    Payee,
    Payout,
)
from schemas.context import Info
from schemas.funds import DepositType, PayoutType
from schemas.refusals import result_union
from schemas.relay import local_id_of
from schemas.scalars import BigInt


@strawberry.input
class FundAccountInput:
    """Whose money: exactly one of the two, by its global id or its own."""

    citizen: strawberry.ID | None = None
    enterprise: strawberry.ID | None = None


@strawberry.input
class DepositFundsInput:
    """Money that came in: for whom, how much, by which line of the bank's statement, from which day.

    The reference is 1–64 letters, digits, dots, slashes, dashes or underscores; width, case and blanks are no matter.
    The note, 1–200 characters, is for staff.
    """

    idempotency_key: str
    account: FundAccountInput
    fen: BigInt
    reference: str
    value_date: date
    note: str | None = None


@strawberry.input
class ApproveDepositInput:
    """A proposed deposit."""

    idempotency_key: str
    deposit: strawberry.ID


@strawberry.input
class RejectDepositInput:
    """A proposed deposit, and why it is none, in 1–500 characters."""

    idempotency_key: str
    deposit: strawberry.ID
    reason: str


@strawberry.input
class PayeeInput:
    """A bank account: in whose name, its number (8–34 digits or letters), at which bank."""

    name: str
    number: str
    bank: str


@strawberry.input
class RequestPayoutInput:
    """How much to pay out, and to which bank account."""

    idempotency_key: str
    fen: BigInt
    payee: PayeeInput


@strawberry.input
class CancelPayoutInput:
    """A payout of one's own."""

    idempotency_key: str
    payout: strawberry.ID


@strawberry.input
class ApprovePayoutInput:
    """A payout of which a transfer is recorded, and the reference of the line that was looked at."""

    idempotency_key: str
    payout: strawberry.ID
    reference: str


@strawberry.input
class SettlePayoutInput:
    """A payout, and by which line of the bank's statement (as of a deposit) and on which day it was paid."""

    idempotency_key: str
    payout: strawberry.ID
    reference: str
    value_date: date


@strawberry.input
class RejectPayoutInput:
    """A payout, and why it is turned down, in 1–500 characters that its owner reads."""

    idempotency_key: str
    payout: strawberry.ID
    reason: str


ANY = (IdempotencyConflictError, InvalidInputError)
OWN = (errors.OwnInterestError, errors.OwnProposalError)
OF_ENTERPRISE = (errors.UnknownEnterpriseError, errors.EnterpriseStageError)
# By another server's clock a hold may have ended a moment before this one's.
OF_PAYOUT = (errors.UnknownPayoutError, errors.PayoutStageError, HoldExpiredError, HoldNotActiveError, *ANY)
DepositFundsResult: Any = result_union(
    "DepositFundsResult",
    DepositType,
    UnknownCitizenError,
    *OF_ENTERPRISE,
    errors.OwnInterestError,
    errors.DuplicateReferenceError,
    *ANY,
)
ApproveDepositResult: Any = result_union(
    "ApproveDepositResult",
    DepositType,
    errors.UnknownDepositError,
    errors.DepositStageError,
    *OWN,
    *OF_ENTERPRISE,
    *ANY,
)
RejectDepositResult: Any = result_union(
    "RejectDepositResult",
    DepositType,
    errors.UnknownDepositError,
    errors.DepositStageError,
    *OWN,
    *ANY,
)
RequestPayoutResult: Any = result_union(
    "RequestPayoutResult",
    PayoutType,
    *OF_ENTERPRISE,
    errors.TooManyPayoutsError,
    TooManyHoldsError,
    InsufficientFundsError,
    *ANY,
)
CancelPayoutResult: Any = result_union("CancelPayoutResult", PayoutType, *OF_PAYOUT)
SettlePayoutResult: Any = result_union(
    "SettlePayoutResult",
    PayoutType,
    *OF_ENTERPRISE,
    errors.OwnInterestError,
    errors.DuplicateReferenceError,
    *OF_PAYOUT,
)
ApprovePayoutResult: Any = result_union(
    "ApprovePayoutResult", PayoutType, *OF_ENTERPRISE, *OWN, errors.ReferenceChangedError, *OF_PAYOUT
)
RejectPayoutResult: Any = result_union("RejectPayoutResult", PayoutType, *OWN, *OF_PAYOUT)


def _account(given: FundAccountInput) -> FundAccount:
    if (given.citizen is None) is (given.enterprise is None):
        problem = Text("市民与企业须且只能填一个", "either a citizen or an enterprise")
        raise InvalidInputError("account", problem)
    if given.citizen is not None:
        return FundAccount(citizen=CitizenId(local_id_of(Citizen.__name__, given.citizen)))
    return FundAccount(enterprise=EnterpriseId(local_id_of(Enterprise.__name__, given.enterprise or "")))


def _deposit_id(given: str) -> str:
    return local_id_of(Deposit.__name__, given)


def _payout_id(given: str) -> str:
    return local_id_of(Payout.__name__, given)


@strawberry.type
class FundsMutation:
    """Mutations on money."""

    @strawberry.mutation(graphql_type=DepositFundsResult)
    async def deposit_funds(self, info: Info, input: DepositFundsInput) -> Deposit:  # noqa: A002
        """Record money that came in, which another approves; for finance staff and administrators."""
        principal = info.context.require_principal()
        order = DepositOrder(
            account=_account(input.account),
            fen=input.fen,
            entry=BankEntry(input.reference, input.value_date),
            note=input.note,
        )
        return await info.context.services.market.deposits.propose(principal, order, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ApproveDepositResult)
    async def approve_deposit(self, info: Info, input: ApproveDepositInput) -> Deposit:  # noqa: A002
        """Bring a deposit that another recorded into the book; for finance staff and administrators."""
        principal, deposit = info.context.require_principal(), _deposit_id(input.deposit)
        return await info.context.services.market.deposits.approve(principal, deposit, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=RejectDepositResult)
    async def reject_deposit(self, info: Info, input: RejectDepositInput) -> Deposit:  # noqa: A002
        """Turn a deposit that another recorded down; for finance staff and administrators."""
        principal, deposit = info.context.require_principal(), _deposit_id(input.deposit)
        deposits = info.context.services.market.deposits
        return await deposits.reject(principal, deposit, input.reason, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=RequestPayoutResult)
    async def request_payout(self, info: Info, input: RequestPayoutInput) -> Payout:  # noqa: A002
        """Ask for money of one's own to be paid out; for citizens and enterprises, five at once."""
        principal = info.context.require_principal()
        payee = Payee(input.payee.name, input.payee.number, input.payee.bank)
        payouts = info.context.services.market.payouts
        return await payouts.request(principal, input.fen, payee, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=CancelPayoutResult)
    async def cancel_payout(self, info: Info, input: CancelPayoutInput) -> Payout:  # noqa: A002
        """Take a request of one's own back, as long as no transfer is recorded."""
        principal, payout = info.context.require_principal(), _payout_id(input.payout)
        return await info.context.services.market.payouts.cancel(principal, payout, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=SettlePayoutResult)
    async def settle_payout(self, info: Info, input: SettlePayoutInput) -> Payout:  # noqa: A002
        """Record the bank's transfer, or correct the record; another approves it; for finance staff, administrators."""
        principal, payout = info.context.require_principal(), _payout_id(input.payout)
        entry = BankEntry(input.reference, input.value_date)
        return await info.context.services.market.payouts.settle(principal, payout, entry, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=ApprovePayoutResult)
    async def approve_payout(self, info: Info, input: ApprovePayoutInput) -> Payout:  # noqa: A002
        """Agree to the transfer that another recorded: the fen leave; for finance staff and administrators."""
        principal, payout = info.context.require_principal(), _payout_id(input.payout)
        payouts = info.context.services.market.payouts
        return await payouts.approve(principal, payout, input.reference, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=RejectPayoutResult)
    async def reject_payout(self, info: Info, input: RejectPayoutInput) -> Payout:  # noqa: A002
        """Turn a request or another's record of its transfer down; for finance staff and administrators."""
        principal, payout = info.context.require_principal(), _payout_id(input.payout)
        payouts = info.context.services.market.payouts
        return await payouts.reject(principal, payout, input.reason, key=input.idempotency_key)
