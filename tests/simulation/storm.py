"""Callers of one account that do not wait for each other, and what they were told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.kernel.errors import DomainError, TransientError
from backend.ledger.errors import InsufficientFundsError
from backend.ledger.model import POINTS
from tests.factories import earning, owner, spending
from tests.simulation.linearizability import Call, History, explanation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from backend.ledger.model import Transaction
    from backend.ledger.service import Ledger
    from backend.runtime import Services

PATIENCE_S = 60
OPENING = 20
CALLS = 12


async def insist(ledger: Ledger, transaction: Transaction) -> str | DomainError:
    """Post until the answer is about the transaction and not about the crowd or the servers: POSTED or the refusal."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await ledger.post(transaction)
            except TransientError:
                await asyncio.sleep(0.01)
            except DomainError as error:
                return error
            else:
                return "POSTED"


async def answer_to(services: Services, transaction: Transaction) -> str:
    """POSTED or the code of the refusal."""
    answer = await insist(services.ledger, transaction)
    return answer.code if isinstance(answer, DomainError) else answer


async def balance(services: Services, name: str) -> int:
    """A citizen's points."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return (await services.ledger.get_page(owner(name))).balance(POINTS)
            except TransientError:
                await asyncio.sleep(0.01)


@dataclass
class Callers:
    """Callers of one citizen's account, each through one of several doors to the same book."""

    doors: Sequence[Services]
    chance: Random
    name: str
    history: History = field(default_factory=History)

    async def call(self, number: int) -> None:
        """One earning, spending or look at the balance, after a moment; what came of it goes into the history."""
        door = self.chance.choice(self.doors)
        change = self.chance.choice([0, *range(1, 12), *range(-25, 0)])
        await asyncio.sleep(self.chance.random() * 0.02)
        called = self.history.tick()
        if not change:
            seen = await balance(door, self.name)
            self.history.calls.append(Call(called=called, returned=self.history.tick(), seen=seen))
            return
        key = f"{self.name}-{number}"
        earned, spent = earning(key, self.name, abs(change)), spending(key, self.name, amount=abs(change))
        answer = await insist(door.ledger, earned if change > 0 else spent)
        told = answer.available if isinstance(answer, InsufficientFundsError) else None
        assert answer == "POSTED" or told is not None, answer
        returned = self.history.tick()
        self.history.calls.append(
            Call(called=called, returned=returned, change=change, is_refused=told is not None, told=told)
        )


async def check_histories(doors: Sequence[Services], chance: Random, count: int) -> int:
    """Play so many histories, two at a time, each explained by some serial order; how many refusals there were."""
    refusals = 0
    for number in range(0, count, 2):
        names = [f"caller-{chance.getrandbits(64):x}-{one}" for one in range(number, min(number + 2, count))]
        crowds = [Callers(doors, chance, name) for name in names]
        for name in names:
            assert await insist(doors[0].ledger, earning(f"open-{name}", name, OPENING)) == "POSTED"
        await asyncio.gather(*(crowd.call(one) for crowd in crowds for one in range(CALLS)))
        for crowd in crowds:
            closing = await balance(doors[0], crowd.name)
            calls = crowd.history.calls
            assert explanation(calls, opening=OPENING, closing=closing), (
                closing,
                sorted(calls, key=lambda c: c.called),
            )
            refusals += sum(call.is_refused for call in calls)
    return refusals
