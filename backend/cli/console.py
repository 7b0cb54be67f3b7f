"""What commands share: the two consoles, number formats, one way to fail, one way to run a service call."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, TypeVar

import structlog
import uvloop
from rich.console import Console

from backend.kernel.errors import DomainError
from backend.process.errors import ServerError
from backend.process.memory import collect_rarely
from backend.programme.model import PresetError
from backend.rules.errors import ProfileError, PublishedOtherwiseError
from backend.runtime import Services, open_services
from backend.settings import Settings
from backend.stack import StackError, find_running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Result = TypeVar("Result")
OUT = Console()
ERR = Console(stderr=True)
MG_PER_KG = 1_000_000


class CommandError(RuntimeError):
    """A command cannot do what is asked; the message says why and what would help."""


ERRORS = (CommandError, DomainError, ServerError, StackError, PresetError, ProfileError, PublishedOtherwiseError)


def fail(message: str) -> None:
    """Say on standard error what went wrong."""
    ERR.print(f"[bold red]✗[/] {message}", highlight=False)


def quiet_logs(level: int = logging.WARNING) -> None:
    """Log from ``level`` on, to standard error, so that standard output holds only what the command says."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def service_logs() -> None:
    """Log one JSON object a line, for processes that serve; tracebacks as text, which is quick to make."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


def grams(milligrams: int) -> str:
    """Milligrams as grams or kilograms for people, cut to one decimal."""
    if milligrams < 10 * MG_PER_KG:
        return f"{milligrams // 1_000:,}.{milligrams // 100 % 10} g"
    return f"{milligrams // MG_PER_KG:,}.{milligrams // 100_000 % 10} kg"


def running_settings() -> Settings:
    """Settings of the deployment this command speaks to.

    Raises:
        CommandError: none runs here and no server URLs are set.
    """
    settings = find_running(Settings())
    if settings is None:
        raise CommandError(
            "nothing runs here: start it with `tanhui up`, or set TANHUI_MONGODB_URL and TANHUI_VALKEY_URL"
        )
    return settings


def with_services(settings: Settings, call: Callable[[Services], Awaitable[Result]]) -> Result:
    """Run one call on freshly opened services."""

    async def called() -> Result:
        async with open_services(settings) as services:
            collect_rarely()
            return await call(services)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(called())
