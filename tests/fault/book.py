"""A program that posts a known plan into a book and writes down what was acknowledged, until it is killed.

Started again, it goes on with the first step of each lane that was not acknowledged, under the same key: what a careful
caller does. Must not decide what is right: ``test_kills.py`` does, with the reference ledger.

It imports nothing of the tests, which are no package that a program could rely on.

Usage: python tests/fault/book.py MONGODB_URL DATABASE SEED JOURNAL [stall]
With ``stall`` it stops for ever in the middle of its first MongoDB transaction.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from backend.kernel.clock import SystemClock
from backend.kernel.errors import TransientError
from backend.ledger.lots import PointsPolicy
from backend.ledger.model import MINTS, POINTS, AccountId, HoldRef, OwnerId, Posting, Transaction, TransactionKind
from backend.ledger.service import Ledger
from backend.mongo.client import open_database
from backend.mongo.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backend.mongo.transactions import Tx


Kind = TransactionKind
LANES = 8
EVERYBODY = AccountId("citizen:everybody:points")
ZONE = ZoneInfo("Asia/Shanghai")
UNTIL = datetime(2099, 1, 1, tzinfo=UTC)
KINDS = 5


def step(seed: int, lane: int, number: int) -> Transaction:
    """Step ``number`` of a lane: earn, hold, capture a part, void the rest, pay to an account that all lanes share."""
    turn, kind = divmod(number, KINDS)
    key, owner = f"{seed}-{lane}-{turn}", OwnerId(f"citizen:payer-{lane}")
    payer, payee = AccountId(f"{owner}:points"), AccountId("merchant:shop:points")
    chance = Random(key)
    earned, reserved, paid = chance.randint(20, 50), chance.randint(2, 10), chance.randint(1, 9)
    hold = Transaction(key=f"{key}-hold", kind=Kind.HOLD, postings=_moving(payer, payee, reserved), expires_at=UNTIL)
    named, part = HoldRef(owner, hold.id), _moving(payer, payee, chance.randrange(1, reserved))
    return (
        Transaction(key=f"{key}-earn", kind=Kind.EARN, postings=_moving(MINTS[POINTS], payer, earned)),
        hold,
        Transaction(key=f"{key}-post", kind=Kind.POST, postings=part, hold=named, final=False),
        Transaction(key=f"{key}-void", kind=Kind.VOID, hold=named),
        Transaction(key=f"{key}-pay", kind=Kind.TRANSFER, postings=_moving(payer, EVERYBODY, paid)),
    )[kind]


def _moving(payer: AccountId, payee: AccountId, amount: int) -> tuple[Posting]:
    return (Posting(from_account=payer, to_account=payee, asset=POINTS, amount=amount),)


def acknowledged(journal: Path) -> Counter[int]:
    """How many steps of each lane were acknowledged: they are posted one after another."""
    return Counter(int(lane) for lane in journal.read_text().split()) if journal.exists() else Counter()


@asynccontextmanager
async def open_book(url: str, name: str) -> AsyncIterator[tuple[Ledger, Transactions]]:
    """The book alone, as any process of a deployment has it."""
    database = open_database(url, name)
    try:
        transactions = Transactions(database)
        yield Ledger(database, transactions, SystemClock(), PointsPolicy(ZONE)), transactions
    finally:
        await database.client.close()


async def insist(ledger: Ledger, transaction: Transaction) -> None:
    """Post until it is acknowledged, whatever happens to the server meanwhile."""
    while True:
        try:
            await ledger.post(transaction)
        except TransientError:
            await asyncio.sleep(0.02)
        else:
            return


async def main(url: str, name: str, seed: str, journal: str, stall: str = "") -> None:
    """Post every lane's steps in order, for ever."""
    done = acknowledged(Path(journal))
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def drive(ledger: Ledger, lane: int) -> None:
        while True:
            await insist(ledger, step(int(seed), lane, done[lane]))
            os.write(file, f"{lane}\n".encode())
            done[lane] += 1

    async def stop(tx: Tx) -> None:
        await ledger.post_within(tx, [step(int(seed), 0, 0)], at=SystemClock().now())
        os.write(file, b"0\n")  # written, not committed
        await asyncio.Event().wait()

    async with open_book(url, name) as (ledger, transactions):
        if stall:
            await transactions.run(stop)
        async with asyncio.TaskGroup() as lanes:
            for lane in range(LANES):
                lanes.create_task(drive(ledger, lane))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
