"""How a round is shared, what a part is in points, and what is posted for it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backend.ledger.model import (
    BENEFITS,
    CNY,
    MINTS,
    POINTS,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    pool_owner,
)
from backend.market.benefits.errors import RateTooHighError
from backend.market.benefits.model import Paid
from backend.market.funds.rules import pseudonym
from backend.market.pooling.model import Benefit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backend.kernel.ids import CitizenId
    from backend.market.benefits.model import Payment, Round

# Points for a yuan are points for a hundred fen: carries are counted in hundredths of a point.
FEN_PER_YUAN = 100
# No programme's rate comes near (Shanghai's 数字人民币碳普惠 gives 1,250, 2026): what is written into a round beyond
# this mints nothing.
MAX_POINTS_PER_YUAN = 10_000


class Cut(NamedTuple):
    """How ``fen`` are shared among ``grams`` by the largest remainder.

    Every share gets what its grams give, rounded down; what is left goes by one fen to the shares whose remainder
    (of ``fen`` times their grams by ``grams``) is above ``threshold``, and to the first ``ties`` of those at it.
    """

    fen: int
    grams: int
    threshold: int
    ties: int


def cut(fen: int, weights: Sequence[int]) -> Cut:
    """How the fen are shared among shares of so many grams each (> 0)."""
    grams = sum(weights)
    remainders = [fen * weight % grams for weight in weights]
    left = fen - sum(fen * weight // grams for weight in weights)
    if not left:
        # No remainder reaches the whole.
        return Cut(fen, grams, threshold=grams, ties=0)
    remainders.sort(reverse=True)
    threshold = remainders[left - 1]
    return Cut(fen, grams, threshold, ties=left - remainders.index(threshold))


class Sharing:
    """Gives shares their parts, one after the other in the order of the citizens' ids, from the first on."""

    def __init__(self, made: Cut) -> None:
        self._cut = made
        self._ties = made.ties

    def part_of(self, grams: int) -> int:
        """Fen of the next share, which has so many grams."""
        fen, remainder = divmod(self._cut.fen * grams, self._cut.grams)
        is_tie = remainder == self._cut.threshold and self._ties > 0
        self._ties -= is_tie
        return fen + (is_tie or remainder > self._cut.threshold)


def convert(fen: int, points_per_yuan: int, carry: int) -> tuple[int, int]:
    """Whole points for so many fen and for what earlier ones left over, and what is left over now.

    Over all payments of a citizen nothing is lost but the last carry, less than a point, whatever rates they had.
    """
    return divmod(fen * points_per_yuan + carry, FEN_PER_YUAN)


def require_rate(points_per_yuan: int) -> None:
    """Refuse a rate at which no round is proposed, approved or paid.

    Raises:
        RateTooHighError: it is above the limit.
    """
    if points_per_yuan > MAX_POINTS_PER_YUAN:
        raise RateTooHighError(points_per_yuan, MAX_POINTS_PER_YUAN)


def returning(one: Round, citizen: CitizenId, fen: int, choice: Benefit, points: int) -> Transaction:
    """What moves a part of an approved round from the pool to its citizen: as fen, or as points for them.

    The cause seals the rate of the points, and who proposed and who approved the round.
    """
    assert one.decided_by is not None
    purse, owner = account_of(pool_owner(one.batch), CNY), citizen_owner(citizen)
    if choice is Benefit.FEN:
        postings = [Posting(from_account=purse, to_account=account_of(owner, CNY), asset=CNY, amount=fen)]
    else:
        postings = [Posting(from_account=purse, to_account=BENEFITS, asset=CNY, amount=fen)]
        if points:
            mine = account_of(owner, POINTS)
            postings.append(Posting(from_account=MINTS[POINTS], to_account=mine, asset=POINTS, amount=points))
    return Transaction(
        key=f"benefit:{one.id}:{citizen}",
        kind=TransactionKind.BENEFIT,
        postings=tuple(postings),
        cause={
            "round": one.id,
            "batch": one.batch,
            "rate": str(one.points_per_yuan),
            "proposer": pseudonym(one.salt, one.proposed_by),
            "approver": pseudonym(one.salt, one.decided_by),
        },
    )


def told(one: Round, payment: Payment) -> Transaction:
    """The transaction that a payment of the round tells of."""
    return returning(one, payment.citizen, payment.fen, payment.choice, payment.points)


def tallied(paid: Paid, payments: Iterable[Payment]) -> Paid:
    """What was paid after these payments, too."""
    for payment in payments:
        is_fen = payment.choice is Benefit.FEN
        paid = Paid(
            citizens=paid.citizens + 1,
            fen=paid.fen + (payment.fen if is_fen else 0),
            converted_fen=paid.converted_fen + (0 if is_fen else payment.fen),
            points=paid.points + payment.points,
        )
    return paid
