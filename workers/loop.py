"""One event loop and one set of services per worker process, made after the fork and closed before the end."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from backend.process.memory import collect_rarely
from backend.runtime import Services, open_services
from backend.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Result = TypeVar("Result")
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15


class ServiceLoop:
    """A thread that runs the process's event loop, so that the driver's background tasks go on between tasks."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="services", daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        opening = asyncio.run_coroutine_threadsafe(self._stack.enter_async_context(open_services(settings)), self._loop)
        try:
            self.services: Services = opening.result(START_TIMEOUT_S)
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise

    def run(self, call: Callable[[Services], Awaitable[Result]]) -> Result:
        """Run one service call to its end and return what it returns."""

        async def called() -> Result:
            return await call(self.services)

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result()

    def close(self) -> None:
        """Close the services and end the thread."""
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(STOP_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_TIMEOUT_S)
        self._loop.close()


_current: ServiceLoop | None = None


def open_loop() -> None:
    """Called once in each worker process after its fork."""
    global _current  # noqa: PLW0603 - Celery gives a task no other place for what belongs to its process
    _current = ServiceLoop(Settings())
    collect_rarely()


def close_loop() -> None:
    """Called once in each worker process before it ends."""
    global _current  # noqa: PLW0603 - see open_loop
    if _current is not None:
        _current.close()
        _current = None


def run(call: Callable[[Services], Awaitable[Result]]) -> Result:
    """Run one service call on this process's loop."""
    if _current is None:
        # Celery only logs what its start signal raises: a server that was away then is asked again by the next task.
        open_loop()
    assert _current is not None
    return _current.run(call)
