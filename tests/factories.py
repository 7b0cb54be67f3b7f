"""Functions that make domain values with sensible defaults."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from backend.actions.model import ActionRequest
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.clock import SystemClock
from backend.kernel.ids import CitizenId
from backend.kernel.units import Unit
from backend.ledger.audit.whole import audit_ledger
from backend.ledger.model import (
    BANK,
    CNY,
    COMMISSION,
    DONATIONS,
    MINTS,
    POINTS,
    REDEEMED,
    REWARDS,
    AccountId,
    HoldRef,
    OwnerId,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    is_merchant,
    split_account,
)

if TYPE_CHECKING:
    from backend.ledger.audit.findings import Audit
    from backend.ledger.model import Asset
    from backend.runtime import Services

ADMIN = Principal(PrincipalKind.STAFF, "root", frozenset({StaffRole.ADMIN}))


def citizen(name: str = "alice") -> Principal:
    """A citizen as principal."""
    return Principal(PrincipalKind.CITIZEN, name)


def partner(name: str = "metro") -> Principal:
    """A partner as principal."""
    return Principal(PrincipalKind.PARTNER, name)


def bus_ride(ref: str = "ride-1", **changes: Any) -> ActionRequest:
    """A bus ride an hour ago, from the citizen's own app."""
    given: dict[str, Any] = {
        "kind": "bus_ride",
        "quantity": 1,
        "unit": Unit.COUNT,
        "occurred_at": SystemClock().now() - timedelta(hours=1),
        "source": "app",
        "ref": ref,
    }
    return ActionRequest(**{**given, **changes})


async def replay(services: Services) -> Audit:
    """The ledger's own audit: what these tests post stands for no action, which the whole audit would ask for."""
    async with services.database.snapshot() as snapshot:
        return await audit_ledger(snapshot)


def owner(name: str = "alice") -> OwnerId:
    """The citizen as owner."""
    return citizen_owner(CitizenId(name))


def account(name: str = "alice", asset: Asset = POINTS) -> AccountId:
    """The citizen's account."""
    return account_of(owner(name), asset)


def shop(name: str = "shop", asset: Asset = POINTS) -> AccountId:
    """A merchant's account."""
    return account_of(OwnerId(f"merchant:{name}"), asset)


def posting(payer: AccountId, payee: AccountId, amount: int) -> Posting:
    """An amount of whatever asset the payer's account is of."""
    return Posting(from_account=payer, to_account=payee, asset=split_account(payer).asset, amount=amount)


def earning(key: str = "earn-1", name: str = "alice", amount: int = 100, asset: Asset = POINTS) -> Transaction:
    """New ``asset`` for a citizen."""
    return Transaction(
        key=key, kind=TransactionKind.EARN, postings=(posting(MINTS[asset], account(name, asset), amount),)
    )


def transfer(key: str = "pay-1", payer: str = "alice", payee: str = "bob", amount: int = 10) -> Transaction:
    """Points from one citizen to another."""
    return paying(key, account(payer), account(payee), amount)


def spending(
    key: str = "spend-1", payer: str = "alice", payee: str = "shop", amount: int = 10, asset: Asset = POINTS
) -> Transaction:
    """An amount from a citizen to a merchant."""
    return paying(key, account(payer, asset), shop(payee, asset), amount)


def paying(key: str, payer: AccountId, payee: AccountId, amount: int) -> Transaction:
    """An amount from one account to another."""
    moved = posting(payer, payee, amount)
    return Transaction(key=key, kind=TransactionKind.TRANSFER, postings=(moved,), cause=_merchant_of(moved))


def _merchant_of(*postings: Posting) -> dict[str, str]:
    """The cause by which settlement knows what moved in a merchant's account."""
    accounts = [account for moved in postings for account in (moved.from_account, moved.to_account)]
    merchants = [owner for owner in (split_account(account).owner for account in accounts) if is_merchant(owner)]
    return {"merchant": merchants[0].partition(":")[2]} if merchants else {}


def donation(key: str = "give-1", payer: str = "alice", amount: int = 10) -> Transaction:
    """Points from a citizen to a cause."""
    return paying(key, account(payer), DONATIONS, amount)


def settlement(
    key: str = "settle-1", merchant: str = "shop", points: int = 10, fen: int = 90, commission: int = 3
) -> Transaction:
    """A merchant's period: points handed back, fen owed for them, commission kept of it; the other way if negative."""
    purse = shop(merchant, CNY)
    moved = ((shop(merchant), REDEEMED, points), (REWARDS, purse, fen), (purse, COMMISSION, commission))
    return Transaction(
        key=key,
        kind=TransactionKind.SETTLE,
        postings=tuple(
            posting(*((payer, payee)[:: 1 if amount > 0 else -1]), abs(amount))
            for payer, payee, amount in moved
            if amount
        ),
        cause={"merchant": merchant, "settlement": key},
    )


def payout(key: str = "payout-1", merchant: str = "shop", fen: int = 87) -> Transaction:
    """Fen paid out to a merchant."""
    return Transaction(
        key=key,
        kind=TransactionKind.PAYOUT,
        postings=(posting(shop(merchant, CNY), BANK, fen),),
        cause={"merchant": merchant, "settlement": "settle-1"},
    )


def holding(
    key: str = "hold-1",
    payer: AccountId | None = None,
    payee: AccountId | None = None,
    amount: int = 10,
    *,
    until: datetime,
) -> Transaction:
    """An amount of alice's reserved for a merchant."""
    reserved = posting(payer or account(), payee or shop(), amount)
    return Transaction(key=key, kind=TransactionKind.HOLD, postings=(reserved,), expires_at=until)


def capture(hold: Transaction, key: str = "post-1", amount: int | None = None, *, final: bool = True) -> Transaction:
    """The posting of a hold: all of it, or so much."""
    [reserved] = hold.postings
    moved = posting(reserved.from_account, reserved.to_account, amount or reserved.amount)
    return Transaction(
        key=key,
        kind=TransactionKind.POST,
        postings=(moved,),
        cause=_merchant_of(moved),
        hold=HoldRef(_payer(hold), hold.id),
        final=final,
    )


def release(hold: Transaction, key: str = "void-1", *, kind: TransactionKind = TransactionKind.VOID) -> Transaction:
    """The voiding of a hold."""
    return Transaction(key=key, kind=kind, hold=HoldRef(_payer(hold), hold.id))


def _payer(hold: Transaction) -> OwnerId:
    return split_account(hold.postings[0].from_account).owner


def reversal(original: Transaction, key: str = "reverse-1", amounts: tuple[int, ...] = ()) -> Transaction:
    """The original taken back, in whole or in these parts of its first postings."""
    chosen = amounts or tuple(moved.amount for moved in original.postings)
    mirrored = tuple(
        posting(moved.to_account, moved.from_account, amount)
        for moved, amount in zip(original.postings, chosen, strict=False)
        if amount
    )
    return Transaction(
        key=key,
        kind=TransactionKind.REVERSE,
        postings=mirrored,
        cause=_merchant_of(*mirrored),
        corrects=original.id,
    )


def restatement(original: Transaction, change: int, key: str = "restate-1") -> Transaction:
    """So much more, or less, for what an earning was about."""
    [earned] = original.postings
    payer, payee = (earned.from_account, earned.to_account)[:: 1 if change > 0 else -1]
    return Transaction(
        key=key, kind=TransactionKind.RESTATE, postings=(posting(payer, payee, abs(change)),), corrects=original.id
    )


def adjustment(
    change: int,
    key: str = "adjust-1",
    name: str = "alice",
    asset: Asset = POINTS,
    corrects: Transaction | None = None,
) -> Transaction:
    """So much more, or less, for a citizen, by hand of staff."""
    payer, payee = (MINTS[asset], account(name, asset))[:: 1 if change > 0 else -1]
    return Transaction(
        key=key,
        kind=TransactionKind.ADJUST,
        postings=(posting(payer, payee, abs(change)),),
        cause={"staff": "root", "reason": "a test"},
        corrects=corrects.id if corrects else None,
    )
