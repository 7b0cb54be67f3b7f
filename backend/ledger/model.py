"""Accounts, postings, transactions and balances as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NewType

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
PROGRAMME = OwnerId("programme")
GUARDED_OWNERS = frozenset({"citizen", "enterprise"})
OWNER_KINDS = GUARDED_OWNERS | {"merchant"}
# Where new amounts come from: each mint lets exactly one asset out, and its balance is minus all that exists of it.
MINTS: Mapping[Asset, AccountId] = {
    POINTS: AccountId("programme:issuance"),
    QUANTIFIED: AccountId("programme:quantification"),
    RECOGNISED: AccountId("programme:recognition"),
}
PROGRAMME_ACCOUNTS: Mapping[AccountId, Asset] = {account: asset for asset, account in MINTS.items()}


class TransactionKind(StrEnum):
    """Why amounts moved."""

    EARN = "EARN"
    TRANSFER = "TRANSFER"


def citizen_owner(citizen: CitizenId) -> OwnerId:
    """The citizen as owner of accounts."""
    return OwnerId(f"citizen:{citizen}")


def account_of(owner: OwnerId, asset: Asset) -> AccountId:
    """The owner's account of that asset."""
    return AccountId(f"{owner}:{asset}")


def split_account(account: AccountId) -> tuple[OwnerId, Asset]:
    """Owner and asset of an account name.

    Raises:
        ValueError: the name is not of the chart of accounts.
    """
    if account in PROGRAMME_ACCOUNTS:
        return PROGRAMME, PROGRAMME_ACCOUNTS[account]
    kind, _, rest = account.partition(":")
    name, _, asset = rest.partition(":")
    if kind not in OWNER_KINDS or not name or not asset:
        message = f"no account can be called {account!r}"
        raise ValueError(message)
    return OwnerId(f"{kind}:{name}"), Asset(asset)


def is_guarded(owner: OwnerId) -> bool:
    """Whether the owner's accounts must never fall below zero."""
    return owner.partition(":")[0] in GUARDED_OWNERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """``amount`` (> 0, points or milligrams) of ``asset`` leaves one account and enters another."""

    from_account: AccountId
    to_account: AccountId
    asset: Asset
    amount: int


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """Postings that happen together, once: ``key`` names the cause and, by naming it, its home owner.

    Its digests are made once, so it has no slots.
    """

    key: str
    kind: TransactionKind
    postings: tuple[Posting, ...]
    cause: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def id(self) -> TransactionId:
        """The id that this key, and no other, always gives."""
        return TransactionId(derived_id("tx", self.key))

    @cached_property
    def payload(self) -> str:
        """Hash of all that a replay must repeat."""
        return payload_hash(
            [self.kind, dict(self.cause), [[p.from_account, p.to_account, p.asset, p.amount] for p in self.postings]]
        )


@dataclass(frozen=True, slots=True)
class Line:
    """The effect of one transaction on one guarded account: signed change and the balance after it."""

    asset: Asset
    change: int
    balance: int


@dataclass(frozen=True, slots=True)
class Page:
    """A guarded owner's balances by asset after ``version`` transactions."""

    owner: OwnerId
    version: int
    balances: Mapping[Asset, int]

    def balance(self, asset: Asset) -> int:
        """Whole units of ``asset`` the owner has."""
        return self.balances.get(asset, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction as it stands on one guarded owner's page: its place in the owner's sequence and its lines there."""

    owner: OwnerId
    sequence: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One row of a statement, newest first by ``sequence``."""

    sequence: int
    transaction: TransactionId
    kind: TransactionKind
    at: datetime
    line: Line
    cause: Mapping[str, str]
