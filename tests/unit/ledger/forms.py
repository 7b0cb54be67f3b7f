"""The form of every kind of transaction: what it demands, allows and refuses."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from backend.kernel.ids import TransactionId
from backend.ledger import shape
from backend.ledger.errors import MalformedTransactionError
from backend.ledger.model import (
    BANK,
    BREAKAGE,
    CNY,
    CONVERTED,
    DEDUCTED,
    MINTS,
    POINTS,
    QUANTIFIED,
    REDEEMED,
    Draw,
    HoldRef,
    Posting,
    Purpose,
    Transaction,
    TransactionKind,
    account_of,
    credit_account,
    credit_asset,
    debt_of,
    pool_owner,
)
from tests.factories import account, owner, posting, shop
from tests.unit.ledger.book import NOON

if TYPE_CHECKING:
    from collections.abc import Mapping


Kind = TransactionKind
MINT, DEBT = MINTS[POINTS], debt_of(owner(), POINTS)
EARNED = posting(MINT, account(), 10)
SPENT = posting(account(), shop(), 10)
HOLD = HoldRef(owner(), TransactionId("tx_hold"))
DRAW = Draw(HOLD, final=True)
CORRECTED = TransactionId("tx_1")
POOL, CREDIT = pool_owner("b1"), credit_asset("b1")
GRAMS, POOLED = account(asset=QUANTIFIED), account_of(POOL, QUANTIFIED)
PURSE, CREDITS = account(asset=CNY), account(asset=CREDIT)
ISSUING, RETIRED, ORDERED = (credit_account(purpose, CREDIT) for purpose in Purpose)
# Whole grams, which everything may be.
AMOUNT = 10_000
ISSUED = posting(ISSUING, CREDITS, AMOUNT)


class Form(NamedTuple):
    """What a kind demands (True), allows (None) or refuses (False), with a posting that suits it, and one beside it."""

    posting: Posting
    most: int
    hold: bool = False
    part: bool = False
    end: bool = False
    corrects: bool | None = False
    lots: bool | None = False
    draws: bool = False
    cause: Mapping[str, str] = {}
    beside: Posting | None = None


FORMS: Mapping[Kind, Form] = {
    Kind.EARN: Form(EARNED, 1_000),
    Kind.TRANSFER: Form(SPENT, 1_000),
    Kind.HOLD: Form(SPENT, 1, end=True),
    Kind.POST: Form(SPENT, 1, hold=True, part=True),
    Kind.VOID: Form(SPENT, 0, hold=True),
    Kind.LAPSE: Form(SPENT, 0, hold=True),
    Kind.EXPIRE: Form(posting(account(), BREAKAGE, 10), 1, lots=None),
    Kind.REVERSE: Form(posting(account(), MINT, 10), 1_000, corrects=True, lots=None),
    Kind.ADJUST: Form(EARNED, 1_000, corrects=None),
    Kind.RESTATE: Form(EARNED, 1_000, corrects=True, lots=None),
    Kind.LEND: Form(posting(DEBT, account(), 10), 1),
    Kind.REPAY: Form(posting(account(), DEBT, 10), 1),
    Kind.SETTLE: Form(posting(shop(), REDEEMED, 10), 1_000, cause={"merchant": "shop"}),
    Kind.PAYOUT: Form(posting(shop(asset=CNY), BANK, 10), 1, cause={"merchant": "shop"}),
    Kind.DEPOSIT: Form(posting(BANK, PURSE, 10), 1),
    Kind.POOL: Form(posting(GRAMS, POOLED, 10), 1_000),
    Kind.DEDUCT: Form(posting(POOLED, DEDUCTED, 10), 1),
    Kind.ISSUE: Form(posting(POOLED, CONVERTED, AMOUNT), 1_000, beside=ISSUED),
    Kind.TRADE: Form(posting(CREDITS, account("bob", CREDIT), AMOUNT), 1_000, draws=True),
    Kind.BENEFIT: Form(posting(account_of(POOL, CNY), PURSE, 10), 1_000),
    Kind.RETIRE: Form(posting(CREDITS, RETIRED, AMOUNT), 1),
}


def several(kind: Kind, count: int) -> tuple[Posting, ...]:
    """So many postings that suit the kind."""
    form = FORMS[kind]
    return tuple(itertools.islice(itertools.cycle([form.posting, form.beside or form.posting]), count))


def formed(kind: Kind, **changes: Any) -> Transaction:
    """The least that the kind demands, otherwise in these fields."""
    form = FORMS[kind]
    given: dict[str, Any] = {
        "key": "key",
        "kind": kind,
        "postings": several(kind, 2 if form.beside else min(1, form.most)),
        "hold": HOLD if form.hold else None,
        "expires_at": NOON if form.end else None,
        "corrects": CORRECTED if form.corrects else None,
        "draws": (DRAW,) if form.draws else (),
        "cause": form.cause,
    }
    return Transaction(**{**given, **changes})


def problem_of(transaction: Transaction) -> str | None:
    try:
        shape.check(transaction)
    except MalformedTransactionError as error:
        return str(error)
    return None
