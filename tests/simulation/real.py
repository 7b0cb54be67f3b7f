"""The ledger's service on a real server, called from code that knows no loop. Decides nothing about right answers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from backend.kernel.clock import ManualClock
from backend.kernel.errors import DomainError
from backend.ledger.errors import MalformedTransactionError
from backend.runtime import Services, open_services

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

    from backend.ledger.model import Transaction
    from backend.mongo.transactions import Tx
    from backend.settings import Settings

Result = TypeVar("Result")
MALFORMED = "MALFORMED"
BIRTH = datetime(2026, 11, 21, 3, 4, 5, 678_000, tzinfo=UTC)


@dataclass
class RealLedger:
    """The service, called from code that knows no loop."""

    runner: asyncio.Runner
    services: Services
    clock: ManualClock

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(call)

    def post(self, transactions: list[Transaction]) -> str | None:
        """All of them in one MongoDB transaction, or, being one, by itself; the refusal's code, or None."""
        ledger = self.services.ledger

        async def body(tx: Tx) -> None:
            await ledger.post_within(tx, transactions, at=self.clock.now())

        try:
            if len(transactions) > 1:
                self.run(self.services.settling._transactions.run(body))
            else:
                assert self.run(ledger.post(transactions[0])) == transactions[0].id
        except MalformedTransactionError:
            return MALFORMED
        except DomainError as error:
            return error.code
        return None

    def post_together(self, transactions: list[Transaction]) -> list[str | None]:
        """Each by itself, all at the same moment: the answers in their order."""

        async def together() -> list[Any]:
            return await asyncio.gather(*map(self.services.ledger.post, transactions), return_exceptions=True)

        answers = self.run(together())
        assert [one for one in answers if isinstance(one, BaseException) and not isinstance(one, DomainError)] == []
        return [answer.code if isinstance(answer, DomainError) else None for answer in answers]

    def clear(self) -> None:
        database = self.services.database.raw
        for name in self.run(database.list_collection_names()):
            if name.startswith("ledger_"):
                self.run(database[name].delete_many({}))
        self.clock.current = BIRTH


@contextmanager
def open_ledger(chosen: Settings) -> Iterator[RealLedger]:
    with asyncio.Runner() as runner:
        clock = ManualClock(BIRTH)
        stack = AsyncExitStack()
        services = runner.run(stack.enter_async_context(open_services(chosen, clock)))
        try:
            yield RealLedger(runner, services, clock)
            runner.run(services.database.client.drop_database(chosen.database))
        finally:
            runner.run(stack.aclose())
