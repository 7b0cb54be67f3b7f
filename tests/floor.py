"""Credits and fen in the hands of traders, posted straight into the book: for tests of what happens afterwards."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from backend.kernel.ids import SHARD_COUNT, CitizenId, ShardNumber
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import (
    BANK,
    CNY,
    CONVERTED,
    MINTS,
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
from backend.market.serials.model import SerialRange
from backend.market.serials.store import SerialSheet, cause_of
from backend.mongo.transactions import Transactions

if TYPE_CHECKING:
    from backend.ledger.model import AccountId, Asset, OwnerId
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

BATCH = "zhenjiang-conservative-transit-2026-001"
CREDIT = credit_asset(BATCH)
FIRST_HAND = citizen_owner(CitizenId("first-hand"))
# Shards of the matchers.
EVERYWHERE = [ShardNumber(number) for number in range(SHARD_COUNT)]
_NUMBERS = itertools.count(1)


def move(payer: AccountId, payee: AccountId, asset: Asset, amount: int) -> Posting:
    """A posting."""
    return Posting(from_account=payer, to_account=payee, asset=asset, amount=amount)


async def give_fen(services: Services, owner: OwnerId, fen: int) -> None:
    """Money out of nowhere but the bank."""
    key = f"test-deposit:{next(_NUMBERS)}"
    posting = move(BANK, account_of(owner, CNY), CNY, fen)
    await services.ledger.post(Transaction(key=key, kind=TransactionKind.DEPOSIT, postings=(posting,)))


async def give_credits(
    services: Services, owner: OwnerId, grams: int, *, first: int = 1, batch: str = BATCH
) -> SerialRange:
    """Credits with the serials from ``first`` on, earned, pooled and issued to the owner; no batch is made."""
    run, credit, number = SerialRange(first, first + grams - 1), credit_asset(batch), next(_NUMBERS)
    pool, amount = account_of(pool_owner(batch), QUANTIFIED), grams * MG_PER_GRAM
    mine = account_of(FIRST_HAND, QUANTIFIED)
    steps = [
        Transaction(
            key=f"test-earn:{number}",
            kind=TransactionKind.EARN,
            postings=(move(MINTS[QUANTIFIED], mine, QUANTIFIED, amount),),
        ),
        Transaction(
            key=f"test-pool:{number}", kind=TransactionKind.POOL, postings=(move(mine, pool, QUANTIFIED, amount),)
        ),
        Transaction(
            key=f"test-issue:{number}",
            kind=TransactionKind.ISSUE,
            postings=(
                move(pool, CONVERTED, QUANTIFIED, amount),
                move(credit_account(Purpose.ISSUING, credit), account_of(owner, credit), credit, amount),
            ),
            cause=cause_of(credit, [run]),
        ),
    ]

    async def body(tx: Tx) -> None:
        serials = SerialSheet(tx)
        serials.issue(credit, run, owner)
        await services.ledger.post_within(tx, steps, at=services.clock.now())
        await serials.write()

    await Transactions(services.database).run(body)
    return run
