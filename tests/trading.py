"""Transactions of pools, credits and fen as values; what they stand for in the market is not made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.ids import CitizenId
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import (
    BANK,
    BENEFITS,
    CNY,
    CONVERTED,
    DEDUCTED,
    FEES,
    MINTS,
    POINTS,
    QUANTIFIED,
    Draw,
    HoldRef,
    OwnerId,
    Purpose,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    credit_account,
    credit_asset,
    exchange_of,
    pool_owner,
    split_account,
)
from tests.factories import adjustment, capture, holding, posting, reversal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.ledger.model import Asset

Kind = TransactionKind
BATCH = "b1"
POOL, CREDIT = pool_owner(BATCH), credit_asset(BATCH)
POOLED, PROCEEDS = account_of(POOL, QUANTIFIED), account_of(POOL, CNY)
FIRM = OwnerId("enterprise:firm")
ISSUING, RETIRED = credit_account(Purpose.ISSUING, CREDIT), credit_account(Purpose.RETIRED, CREDIT)


def deposit(key: str = "deposit-1", payee: OwnerId = FIRM, fen: int = 1_000) -> Transaction:
    """Fen paid in."""
    return Transaction(key=key, kind=Kind.DEPOSIT, postings=(posting(BANK, account_of(payee, CNY), fen),))


def payout_hold(key: str, payer: OwnerId, fen: int, *, until: datetime) -> Transaction:
    """Fen reserved for the bank."""
    return holding(key, account_of(payer, CNY), BANK, fen, until=until)


def pooling(
    key: str = "pool-1",
    payer: OwnerId = FIRM,
    amounts: Sequence[int] = (1_000,),
    of: Sequence[Transaction] = (),
    pool: OwnerId = POOL,
) -> Transaction:
    """Milligrams into a pool, posting by posting those of these earnings."""
    mine, pooled = account_of(payer, QUANTIFIED), account_of(pool, QUANTIFIED)
    cause = {"batch": BATCH, **{f"of_{number}": earned.id for number, earned in enumerate(of)}}
    moved = tuple(posting(mine, pooled, amount) for amount in amounts)
    return Transaction(key=key, kind=Kind.POOL, postings=moved, cause=cause)


def deduction(key: str = "deduct-1", amount: int = 100) -> Transaction:
    """Milligrams that the verifier takes off."""
    return Transaction(key=key, kind=Kind.DEDUCT, postings=(posting(POOLED, DEDUCTED, amount),), cause={"batch": BATCH})


def issuance(key: str = "issue-1", payee: OwnerId = POOL, grams: int = 1, serials: str = "1-1") -> Transaction:
    """Grams of the pool that become credits."""
    amount = grams * MG_PER_GRAM
    moved = (posting(POOLED, CONVERTED, amount), posting(ISSUING, account_of(payee, CREDIT), amount))
    return Transaction(key=key, kind=Kind.ISSUE, postings=moved, cause={"credit": CREDIT, "serials": serials})


def order(key: str, payer: OwnerId, asset: Asset, amount: int, *, until: datetime) -> Transaction:
    """What an order reserves: fen, or milligrams of a credit."""
    return holding(key, account_of(payer, asset), exchange_of(asset), amount, until=until)


def drawn(hold: Transaction, *, final: bool = False) -> Draw:
    """The draw on a hold."""
    return Draw(HoldRef(payer_of(hold), hold.id), final)


def payer_of(hold: Transaction) -> OwnerId:
    """Whose hold it is."""
    return split_account(hold.postings[0].from_account).owner


def trade(
    key: str,
    seller: OwnerId,
    buyer: OwnerId,
    amount: int,
    fen: int,
    *,
    draws: Sequence[Draw],
    fees: tuple[int, int] = (0, 0),
    cause: Mapping[str, str] | None = None,
) -> Transaction:
    """Milligrams of the credit for fen; then the seller's fee, out of what they got, and the buyer's."""
    sold, paid = account_of(seller, CREDIT), account_of(buyer, CNY)
    ways = (
        (sold, account_of(buyer, CREDIT), amount),
        (paid, account_of(seller, CNY), fen),
        (account_of(seller, CNY), FEES, fees[0]),
        (paid, FEES, fees[1]),
    )
    return Transaction(
        key=key,
        kind=Kind.TRADE,
        postings=tuple(posting(payer, payee, moved) for payer, payee, moved in ways if moved),
        cause=cause or {"credit": CREDIT, "serials": f"1-{amount // MG_PER_GRAM}"},
        draws=tuple(draws),
    )


def benefit(key: str, payee: OwnerId, fen: int, points: int = 0) -> Transaction:
    """Fen of the pool for a contributor, or points for fen that the programme keeps."""
    kept = posting(PROCEEDS, BENEFITS if points else account_of(payee, CNY), fen)
    minted = (posting(MINTS[POINTS], account_of(payee, POINTS), points),) if points else ()
    return Transaction(key=key, kind=Kind.BENEFIT, postings=(kept, *minted), cause={"batch": BATCH})


def retirement(key: str = "retire-1", payer: OwnerId = FIRM, grams: int = 1, serials: str = "1-1") -> Transaction:
    """Credits that leave for ever."""
    moved = posting(account_of(payer, CREDIT), RETIRED, grams * MG_PER_GRAM)
    cause = {"credit": CREDIT, "serials": serials, "certificate": key}
    return Transaction(key=key, kind=Kind.RETIRE, postings=(moved,), cause=cause)


def market_life(*, until: datetime) -> list[Transaction]:
    """Alice's grams are pooled, verified and issued; the firm buys some of her and of the pool, and retires.

    The grams are given by hand; a part is withdrawn before. Of the orders, the first two end with their trade.
    """
    alice = citizen_owner(CitizenId("alice"))
    earned = adjustment(6_000, "market-earn", "alice", QUANTIFIED)
    pooled = pooling("market-pool", alice, (5_000, 400), (earned, earned))
    sells = (
        order("market-sell", alice, CREDIT, 1_000, until=until),
        order("market-pool-sell", POOL, CREDIT, 2_000, until=until),
    )
    buys = (
        order("market-buy", FIRM, CNY, 60, until=until),
        order("market-buy-more", FIRM, CNY, 90, until=until),
    )
    paid_out = payout_hold("market-payout", alice, 20, until=until)
    done = [drawn(hold, final=True) for hold in (sells[0], buys[0])]
    going_on = [drawn(hold) for hold in (sells[1], buys[1])]
    return [
        earned,
        pooled,
        reversal(pooled, "market-withdraw", (700,)),
        deduction("market-deduct", 300),
        issuance("market-issue-own", alice, 1, "1-1"),
        issuance("market-issue-pool", POOL, 3, "2-4"),
        deposit("market-deposit", FIRM, 500),
        *sells,
        *buys,
        trade("market-trade", alice, FIRM, 1_000, 50, draws=done, fees=(1, 2), cause=_serials("1-1")),
        trade("market-trade-pool", POOL, FIRM, 1_000, 40, draws=going_on, cause=_serials("2-2")),
        benefit("market-benefit", alice, 10),
        benefit("market-points", citizen_owner(CitizenId("carol")), 10, 125),
        retirement("market-retire", FIRM, 2, "1-2"),
        paid_out,
        capture(paid_out, "market-paid"),
    ]


def _serials(spelled: str) -> Mapping[str, str]:
    return {"credit": CREDIT, "serials": spelled}
