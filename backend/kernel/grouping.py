"""Group commit: whatever arrives while one group is being done is done together by the next. Knows no server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from backend.kernel.errors import BusyError, TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
MAX_WAITING = 10_000


class Groups(Generic[Item, Outcome]):
    """Hands items to ``commit`` in groups of at most ``limit``, one group at a time, and each its own outcome."""

    def __init__(
        self, commit: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | Exception]]], *, limit: int, name: str
    ) -> None:
        self._commit = commit
        self._limit = limit
        self._name = name
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Outcome:
        """Wait for the item's group and return the item's outcome, or raise it.

        Raises:
            BusyError: too many wait already; nothing was done.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise BusyError
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, outcome))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name=self._name)
        return await outcome

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
            try:
                outcomes = await self._commit_apart([item for item, _ in group])
            except asyncio.CancelledError:
                cancelled, self._waiting = [*group, *self._waiting], []
                for _, outcome in cancelled:
                    outcome.cancel()
                raise
            for (_, outcome), result in zip(group, outcomes, strict=True):
                if outcome.done():  # its caller gave up waiting
                    continue
                if isinstance(result, Exception):
                    outcome.set_exception(result)
                else:
                    outcome.set_result(result)

    async def _commit_apart(self, items: Sequence[Item]) -> Sequence[Outcome | Exception]:
        """Do the group; where a bug in one item fails it, each by itself, so that the others do not suffer."""
        try:
            outcomes = await self._commit(items)
            if len(outcomes) == len(items):
                return outcomes
            raise RuntimeError(f"{self._name}: {len(outcomes)} outcomes for {len(items)} items")  # noqa: TRY301
        except TransientError as error:
            return [error] * len(items)
        except Exception as error:  # noqa: BLE001 - whoever waits must learn it, whatever it is
            if len(items) == 1:
                return [error]
        return [outcome for item in items for outcome in await self._commit_apart([item])]
