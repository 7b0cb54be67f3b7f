"""What pooling writes into the book: grams back to whoever gave them, deductions, and issuance. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import (
    CONVERTED,
    DEDUCTED,
    QUANTIFIED,
    Posting,
    Purpose,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    credit_account,
    credit_asset,
    pool_owner,
)
from backend.market.pooling.model import contribution_id
from backend.market.serials.store import cause_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.kernel.ids import CitizenId, TransactionId
    from backend.ledger.model import OwnerId
    from backend.market.pooling.model import Batch, BatchCode, Contribution, PooledAct, TakenOut, Verdict
    from backend.market.serials.model import SerialRange


OWN = "own"
POOL = "pool"


def reversal(contribution: Contribution, number: int, mg: int) -> Transaction:
    """What takes all that is left of one of a contribution's transfers back."""
    key = f"unpool:{contribution.batch}:{contribution.citizen}:{number + 1}"
    return _back(contribution.batch, contribution.citizen, key, mg, contribution.transfers[number], {})


def taking_out(batch: BatchCode, citizen: CitizenId, act: PooledAct | TakenOut) -> Transaction:
    """What takes one act's grams back, because better evidence replaces it."""
    key = f"unpool:{batch}:{citizen}:{act.action}"
    return _back(batch, citizen, key, act.mg, act.pooled, {"superseded": act.action})


def _back(
    batch: BatchCode, citizen: CitizenId, key: str, mg: int, transfer: TransactionId, more: dict[str, str]
) -> Transaction:
    pool, own = account_of(pool_owner(batch), QUANTIFIED), account_of(citizen_owner(citizen), QUANTIFIED)
    return Transaction(
        key=key,
        kind=TransactionKind.REVERSE,
        postings=(Posting(from_account=pool, to_account=own, asset=QUANTIFIED, amount=mg),),
        cause={"batch": batch, "contribution": contribution_id(batch, citizen), **more},
        corrects=transfer,
    )


def deductions(batch: Batch, verdict: Verdict, verifier: str) -> Iterator[Transaction]:
    """What the verdict takes out of the pool, each adjustment by itself; who gave it, as a pseudonym, and on what."""
    pool = account_of(pool_owner(batch.code), QUANTIFIED)
    for number, one in enumerate(verdict.adjustments, 1):
        if one.mg:
            yield Transaction(
                key=f"deduct:{batch.code}:{number}",
                kind=TransactionKind.DEDUCT,
                postings=(Posting(from_account=pool, to_account=DEDUCTED, asset=QUANTIFIED, amount=one.mg),),
                cause={
                    "batch": batch.code,
                    "adjustment": str(number),
                    "reason": one.reason.value,
                    "verifier": verifier,
                    "report": verdict.report_hash,
                    "content": verdict.content,
                    "shares": verdict.shares,
                },
            )


def issuance(batch: Batch, contribution: Contribution, run: SerialRange, owner: OwnerId, issuer: str) -> Transaction:
    """What turns the pool's milligrams into the owner's credits; by whom, as a pseudonym, and on which report."""
    assert batch.verdict is not None
    pool, amount = pool_owner(batch.code), run.grams * MG_PER_GRAM
    credit = credit_asset(batch.code)
    whose = POOL if owner == pool else OWN
    return Transaction(
        key=f"issue:{batch.code}:{contribution.citizen}:{whose}",
        kind=TransactionKind.ISSUE,
        postings=(
            Posting(from_account=account_of(pool, QUANTIFIED), to_account=CONVERTED, asset=QUANTIFIED, amount=amount),
            Posting(
                from_account=credit_account(Purpose.ISSUING, credit),
                to_account=account_of(owner, credit),
                asset=credit,
                amount=amount,
            ),
        ),
        cause={
            "batch": batch.code,
            "contribution": contribution.id,
            "issuer": issuer,
            "report": batch.verdict.report_hash,
            "content": batch.verdict.content,
            **cause_of(credit, [run]),
        },
    )
