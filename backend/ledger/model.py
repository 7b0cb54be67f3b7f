"""Accounts, postings, holds, lots, transactions and balances as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple, NewType

from backend.kernel.crypto import payload_hash
from backend.kernel.ids import CitizenId, TransactionId, derived_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

AccountId = NewType("AccountId", str)
OwnerId = NewType("OwnerId", str)
Asset = NewType("Asset", str)

POINTS = Asset("points")
QUANTIFIED = Asset("co2e.quantified")
RECOGNISED = Asset("co2e.recognised")
# Money in fen: what the programme owes merchants, and what citizens, enterprises and pools have paid in or earned.
CNY = Asset("cny")
# Credits, in milligrams, always whole grams: one asset for each issued batch (``credit:<batch>``).
CREDIT = "credit:"
PROGRAMME = OwnerId("programme")
GUARDED_OWNERS = frozenset({"citizen", "enterprise", "pool"})
GUARDED = tuple(f"{kind}:" for kind in sorted(GUARDED_OWNERS))
MERCHANT = "merchant:"
POOL = "pool:"
OWNER_KINDS = GUARDED_OWNERS | {"merchant"}
DEBT = "debt."
# Where new amounts come from: each mint lets exactly one asset out, and its balance is minus all that exists of it.
MINTS: Mapping[Asset, AccountId] = {
    POINTS: AccountId("programme:issuance"),
    QUANTIFIED: AccountId("programme:quantification"),
    RECOGNISED: AccountId("programme:recognition"),
}
# Points that nobody spent in time.
BREAKAGE = AccountId("programme:breakage")
# Points given to a cause, and points that merchants hand back when they are settled.
DONATIONS = AccountId("programme:donations")
REDEEMED = AccountId("programme:redeemed")
# Fen: minus what rewards have cost, what merchants left of it as commission, and what left by the bank.
REWARDS = AccountId("programme:rewards")
COMMISSION = AccountId("programme:commission")
BANK = AccountId("programme:bank")
# Fen: what trading costs, and sale proceeds that their owners took as points.
FEES = AccountId("programme:fees")
BENEFITS = AccountId("programme:benefits")
# Quantified milligrams that became credits, and such that a verifier took off.
CONVERTED = AccountId("programme:converted")
DEDUCTED = AccountId("programme:deducted")
# For whom orders reserve fen; nothing ever arrives there.
EXCHANGE = AccountId("programme:exchange")
PROGRAMME_ACCOUNTS: Mapping[AccountId, Asset] = {
    **{mint: asset for asset, mint in MINTS.items()},
    BREAKAGE: POINTS,
    DONATIONS: POINTS,
    REDEEMED: POINTS,
    REWARDS: CNY,
    COMMISSION: CNY,
    BANK: CNY,
    FEES: CNY,
    BENEFITS: CNY,
    CONVERTED: QUANTIFIED,
    DEDUCTED: QUANTIFIED,
    EXCHANGE: CNY,
}


class Purpose(StrEnum):
    """What the programme has an account for of every credit: ``programme:<purpose>:<credit>``."""

    ISSUING = "issuing"  # the mint: minus all that exists
    RETIRED = "retired"
    EXCHANGE = "exchange"  # for whom orders reserve; nothing ever arrives there


class TransactionKind(StrEnum):
    """Why amounts moved, were reserved or were set free."""

    EARN = "EARN"
    TRANSFER = "TRANSFER"
    HOLD = "HOLD"
    POST = "POST"
    VOID = "VOID"
    LAPSE = "LAPSE"
    EXPIRE = "EXPIRE"
    REVERSE = "REVERSE"
    ADJUST = "ADJUST"
    RESTATE = "RESTATE"
    LEND = "LEND"
    REPAY = "REPAY"
    SETTLE = "SETTLE"
    PAYOUT = "PAYOUT"
    DEPOSIT = "DEPOSIT"
    POOL = "POOL"
    DEDUCT = "DEDUCT"
    ISSUE = "ISSUE"
    TRADE = "TRADE"
    BENEFIT = "BENEFIT"
    RETIRE = "RETIRE"


# Kinds that may give amounts back to a mint.
UNMINTING = frozenset({TransactionKind.REVERSE, TransactionKind.ADJUST, TransactionKind.RESTATE})
# Kinds that the book posts by itself, beside a correction or after what came in.
OWING = frozenset({TransactionKind.LEND, TransactionKind.REPAY})
# Kinds that end a hold without moving anything, and kinds whose points return to lots of long ago.
RELEASING = frozenset({TransactionKind.VOID, TransactionKind.LAPSE})
RETURNING = RELEASING | {TransactionKind.POST, TransactionKind.REVERSE}
# Kinds of one merchant, whom their cause names: what is owed for a period, and what was paid of it.
SETTLING = frozenset({TransactionKind.SETTLE, TransactionKind.PAYOUT})


def citizen_owner(citizen: CitizenId) -> OwnerId:
    """The citizen as owner of accounts."""
    return OwnerId(f"citizen:{citizen}")


def merchant_owner(merchant: str) -> OwnerId:
    """The merchant of that id as owner of accounts."""
    return OwnerId(f"{MERCHANT}{merchant}")


def enterprise_owner(enterprise: str) -> OwnerId:
    """The enterprise of that id as owner of accounts."""
    return OwnerId(f"enterprise:{enterprise}")


def pool_owner(batch: str) -> OwnerId:
    """The pool of that batch as owner of accounts: what its contributors own together."""
    return OwnerId(f"{POOL}{batch}")


def credit_asset(batch: str) -> Asset:
    """The credits of that batch (its code) as an asset."""
    return Asset(f"{CREDIT}{batch}")


def is_credit(asset: Asset) -> bool:
    """Whether the asset is the credits of a batch."""
    return asset.startswith(CREDIT)


def credit_account(purpose: Purpose, credit: Asset) -> AccountId:
    """The programme's account of that credit for that purpose."""
    return AccountId(f"{PROGRAMME}:{purpose}:{credit}")


def exchange_of(asset: Asset) -> AccountId:
    """For whom orders reserve that asset, fen or a credit."""
    return credit_account(Purpose.EXCHANGE, asset) if is_credit(asset) else EXCHANGE


def account_of(owner: OwnerId, asset: Asset) -> AccountId:
    """The owner's account of that asset."""
    return AccountId(f"{owner}:{asset}")


def debt_of(owner: OwnerId, asset: Asset) -> AccountId:
    """The account that says how much of that asset the owner owes the programme; never above zero."""
    return AccountId(f"{owner}:{DEBT}{asset}")


class Account(NamedTuple):
    """What an account's name says."""

    owner: OwnerId
    asset: Asset
    is_debt: bool


# Every posting asks several times.
@lru_cache(maxsize=65_536)
def split_account(account: AccountId) -> Account:
    """Owner and asset of an account name.

    Raises:
        ValueError: the name is not of the chart of accounts.
    """
    if account in PROGRAMME_ACCOUNTS:
        return Account(PROGRAMME, PROGRAMME_ACCOUNTS[account], is_debt=False)
    kind, _, rest = account.partition(":")
    name, _, asset = rest.partition(":")
    if kind == PROGRAMME and name in set(Purpose) and is_credit(Asset(asset)):
        return Account(PROGRAMME, Asset(asset), is_debt=False)
    owed = asset.removeprefix(DEBT)
    is_debt = owed != asset
    if kind not in OWNER_KINDS or not name or not owed or (is_debt and kind not in GUARDED_OWNERS):
        message = f"no account can be called {account!r}"
        raise ValueError(message)
    return Account(OwnerId(f"{kind}:{name}"), Asset(owed), is_debt)


def is_guarded(owner: OwnerId) -> bool:
    """Whether the owner's accounts must never fall below zero."""
    return owner.startswith(GUARDED)


def is_merchant(owner: OwnerId) -> bool:
    """Whether the owner is a merchant."""
    return owner.startswith(MERCHANT)


class Lot(NamedTuple):
    """Points that stop counting at the same instant; ``expires_at`` is the first instant they no longer count."""

    expires_at: datetime
    amount: int


Lots = tuple[Lot, ...]  # by ``expires_at``, each instant once; amounts are positive, in a line's changes signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """``amount`` (> 0, points, milligrams or fen) of ``asset`` leaves one account and enters another."""

    from_account: AccountId
    to_account: AccountId
    asset: Asset
    amount: int


class HoldRef(NamedTuple):
    """Names a hold: its payer and the transaction that made it."""

    owner: OwnerId
    id: TransactionId


class Draw(NamedTuple):
    """A hold that a TRADE pays from; ``final`` sets free what is left of it then."""

    hold: HoldRef
    final: bool


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """Postings that happen together, once, in their order: ``key`` names the cause and, by naming it, its home owner.

    ``hold`` names the hold that a POST, VOID or LAPSE ends; a POST that is not ``final`` leaves the rest of it held.
    ``draws`` are the holds that a TRADE pays from, at most one for each payer and asset.
    ``expires_at`` is a HOLD's end. ``corrects`` names the transaction that a REVERSE, ADJUST or RESTATE corrects.
    ``lots`` are lots of long ago, by account: to be returned into, or taken first. What depends on the time of asking
    (``expires_at``, ``lots``) is no part of ``payload``. Its digests are made once, so it has no slots.
    """

    key: str
    kind: TransactionKind
    postings: tuple[Posting, ...] = ()
    cause: Mapping[str, str] = field(default_factory=dict)
    hold: HoldRef | None = None
    draws: tuple[Draw, ...] = ()
    final: bool = True
    expires_at: datetime | None = None
    corrects: TransactionId | None = None
    lots: Mapping[AccountId, Lots] = field(default_factory=dict)

    @cached_property
    def owners(self) -> tuple[OwnerId, ...]:
        """The guarded owners whose pages it turns, its home first."""
        if self.hold is not None and not self.postings:
            return (self.hold.owner,)
        owners: dict[OwnerId, None] = {}
        for posting in self.postings:
            payer, payee = split_account(posting.from_account).owner, split_account(posting.to_account).owner
            if is_guarded(payer):
                owners[payer] = None
            if is_guarded(payee) and self.kind is not TransactionKind.HOLD:
                owners[payee] = None
        return tuple(owners)

    @cached_property
    def id(self) -> TransactionId:
        """The id that this key, and no other, always gives."""
        return TransactionId(derived_id("tx", self.key))

    @cached_property
    def payload(self) -> str:
        """Hash of all that a replay must repeat."""
        postings = [[p.from_account, p.to_account, p.asset, p.amount] for p in self.postings]
        hold = list(self.hold) if self.hold else None
        told = [self.kind, self.cause, postings, hold, self.final, self.corrects]
        if self.draws:
            told.append([[*draw.hold, draw.final] for draw in self.draws])
        return payload_hash(told)


@dataclass(frozen=True, slots=True)
class Posted:
    """A transaction as it stands in the book, and when it happened."""

    transaction: Transaction
    at: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """What the moment of posting adds to a transaction: its time, and the expiry of points that come from no lot."""

    at: datetime
    opens: datetime


class Line(NamedTuple):
    """The effect of one transaction on one guarded owner's asset, and how it stands after it.

    ``change`` is signed and zero where only a hold or a debt changed; ``balance`` includes what is ``held``; ``debt``
    is what is owed. ``lots`` are the signed changes of lots, held ones included.
    """

    asset: Asset
    change: int
    balance: int
    held: int = 0
    debt: int = 0
    lots: Lots = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """An amount reserved for one account until ``expires_at``; points keep the lots they were reserved from."""

    id: TransactionId
    asset: Asset
    to_account: AccountId
    amount: int
    expires_at: datetime
    lots: Lots = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A guarded owner's position after ``version`` transactions, the last of them ``at``.

    ``balances`` and ``debts`` by asset; ``lots`` are the free lots of points, ``holds`` those not yet ended.
    """

    owner: OwnerId
    version: int = 0
    at: datetime | None = None
    balances: Mapping[Asset, int] = field(default_factory=dict)
    debts: Mapping[Asset, int] = field(default_factory=dict)
    lots: Lots = ()
    holds: tuple[Hold, ...] = ()

    def balance(self, asset: Asset) -> int:
        """Whole units of ``asset`` the owner has, held ones included."""
        return self.balances.get(asset, 0)

    def debt(self, asset: Asset) -> int:
        """Whole units of ``asset`` the owner owes."""
        return self.debts.get(asset, 0)

    def held(self, asset: Asset) -> int:
        """Whole units of ``asset`` reserved by holds."""
        return sum(hold.amount for hold in self.holds if hold.asset == asset)

    def available(self, asset: Asset, at: datetime) -> int:
        """Whole units of ``asset`` that can be spent at that moment: neither held nor expired."""
        if asset == POINTS:
            return sum(lot.amount for lot in self.lots if lot.expires_at > at)
        return self.balance(asset) - self.held(asset)

    def expiring(self, within_until: datetime, at: datetime) -> int:
        """Free points that count at ``at`` and no longer at ``within_until``."""
        return sum(lot.amount for lot in self.lots if at < lot.expires_at <= within_until)

    @property
    def due_at(self) -> datetime | None:
        """When something on the page ends next: a hold or a lot."""
        ends = [lot.expires_at for lot in self.lots] + [hold.expires_at for hold in self.holds]
        return min(ends, default=None)


class Entry(NamedTuple):
    """A transaction as it stands on one guarded owner's page: its place in the owner's sequence and its lines there."""

    owner: OwnerId
    sequence: int
    lines: tuple[Line, ...]


class Applied(NamedTuple):
    """What a transaction did: the turned pages, its entry on each, and the lots each posting took from its payer."""

    pages: Mapping[OwnerId, Page]
    entries: tuple[Entry, ...]
    taken: tuple[Lots, ...]


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One row of a statement, newest first by ``sequence``; ``at`` never decreases along the sequence."""

    sequence: int
    transaction: TransactionId
    kind: TransactionKind
    at: datetime
    line: Line
    cause: Mapping[str, str]
    corrects: TransactionId | None = None


@dataclass(frozen=True, slots=True)
class PeriodStatement:
    """An account's movements with ``since <= at < until``, oldest first, between two balances."""

    account: AccountId
    since: datetime
    until: datetime
    opening: int
    closing: int
    lines: tuple[StatementLine, ...]
