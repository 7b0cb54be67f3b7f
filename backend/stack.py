"""A whole deployment on one machine: embedded servers where no URL is set; API, worker and beat as children.

The parent restarts a child that ends; children end with the parent, whatever kills it.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import orjson
import structlog

from backend.mongo.embedded import EmbeddedMongo
from backend.process.child import ChildProcess
from backend.process.server import free_ports
from backend.valkey.embedded import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backend.settings import Settings

LOG = structlog.get_logger(__name__)
START_TIMEOUT_S = 60
RESTART_PAUSE_S = 1.0
ADDRESS_FILE = "stack.json"
ROLES = ("api", "worker", "beat")


class StackError(RuntimeError):
    """A part of the stack did not start; the message says which and where its log is."""


@dataclass
class Servers:
    """The servers of a stack; embedded ones can be started again on their port."""

    settings: Settings
    mongo: EmbeddedMongo | None = None
    valkey: EmbeddedValkey | None = None

    def revive(self) -> None:
        """Start an embedded server again that died, on the same port and data."""
        if self.mongo is not None and not self.mongo.is_running():
            LOG.warning("mongod ended; starting it again")
            self.mongo.stop()
            self.mongo = EmbeddedMongo.start(self.mongo.data_dir, port=self.mongo.port)
        if self.valkey is not None and not self.valkey.is_running():
            LOG.warning("valkey ended; starting it again")
            self.valkey.stop()
            self.valkey = EmbeddedValkey.start(self.settings.data_dir / "valkey", port=self.valkey.port)

    def stop(self) -> None:
        """End the embedded servers."""
        for server in (self.valkey, self.mongo):
            if server is not None:
                server.stop()


@contextmanager
def running_servers(settings: Settings) -> Iterator[Servers]:
    """Start a server for each URL that is not set; ``servers.settings`` has both URLs.

    Raises:
        ServerError: a server could not start, with the reason and the remedy.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    servers = Servers(settings)
    try:
        if settings.mongodb_url is None:
            servers.mongo = EmbeddedMongo.start(settings.data_dir / "mongo")
            servers.settings = servers.settings.model_copy(update={"mongodb_url": servers.mongo.url})
        if settings.valkey_url is None:
            servers.valkey = EmbeddedValkey.start(settings.data_dir / "valkey")
            servers.settings = servers.settings.model_copy(update={"valkey_url": servers.valkey.url})
        yield servers
    finally:
        servers.stop()


@dataclass
class Stack:
    """Running servers, API, worker and beat."""

    servers: Servers
    port: int
    children: dict[str, ChildProcess] = field(default_factory=dict)
    commands: dict[str, Sequence[str]] = field(default_factory=dict)
    log_starts: dict[str, int] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """Settings with both server URLs."""
        return self.servers.settings

    @property
    def url(self) -> str:
        """Base address of the API."""
        return f"http://127.0.0.1:{self.port}"

    def log_file(self, name: str) -> Path:
        """Where the child's output goes."""
        return self.settings.data_dir / "logs" / f"{name}.log"

    def launch(self, name: str) -> None:
        """Start, or start again, the child of that name."""
        log = self.log_file(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log_starts[name] = log.stat().st_size if log.exists() else 0
        self.children[name] = ChildProcess.start(self.commands[name], env=environment(self.settings), log=log)

    def await_ready(self) -> None:
        """Return once the API answers and the worker takes tasks.

        Raises:
            StackError: it does not in time, or a child ended.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (self._api_answers() and self._worker_answers()):
            ended = [name for name, child in self.children.items() if child.poll() is not None]
            if ended or time.monotonic() > deadline:
                name = ended[0] if ended else "the stack"
                raise StackError(f"{name} did not start; see {self.log_file(name)}")
            time.sleep(0.05)

    def _api_answers(self) -> bool:
        if "api" not in self.children:
            return True
        try:
            return httpx.get(f"{self.url}/readyz", timeout=1).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _worker_answers(self) -> bool:
        if "worker" not in self.children:
            return True
        with self.log_file("worker").open("rb") as log:
            log.seek(self.log_starts["worker"])
            return READY_MARK in log.read()

    def supervise(self) -> None:
        """Start again whatever ended; returns at once."""
        self.servers.revive()
        for name, child in list(self.children.items()):
            status = child.poll()
            if status is not None:
                LOG.warning("child ended; starting it again", child=name, status=status)
                time.sleep(RESTART_PAUSE_S)
                self.launch(name)

    def stop(self) -> None:
        """End the children, API first so that no request meets a missing worker."""
        for child in self.children.values():
            child.terminate()
        for child in self.children.values():
            child.stop()


READY_MARK = b" ready."


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which a child reads the same settings."""
    chosen = settings.model_dump(mode="json", exclude_none=True)
    chosen["data_dir"] = str(settings.data_dir.resolve())
    return {**os.environ, **{f"TANHUI_{name.upper()}": str(value) for name, value in chosen.items()}}


def command(*words: str) -> list[str]:
    """A command line of this program."""
    return [sys.executable, "-m", "backend.cli", *words]


@contextmanager
def running_stack(
    settings: Settings, *, port: int | None = None, workers: int = 1, roles: Sequence[str] = ROLES
) -> Iterator[Stack]:
    """A running, ready deployment; its addresses stand in ``stack.json`` for other commands while it runs.

    Raises:
        ServerError, StackError: a part could not start.
    """
    with ExitStack() as resources:
        servers = resources.enter_context(running_servers(settings))
        stack = Stack(servers, port or free_ports(1)[0])
        stack.commands = {
            "api": command("api", "--port", str(stack.port)),
            "worker": command("worker", "--concurrency", str(workers)),
            "beat": command("beat"),
        }
        resources.callback(stack.stop)
        for name in roles:
            stack.launch(name)
        stack.await_ready()
        address_file = settings.data_dir / ADDRESS_FILE
        addresses = {"mongodb_url": stack.settings.mongodb_url, "valkey_url": stack.settings.valkey_url}
        address_file.write_bytes(orjson.dumps({**addresses, "url": stack.url, "pid": os.getpid()}))
        resources.callback(address_file.unlink, missing_ok=True)
        yield stack


def find_running(settings: Settings) -> Settings | None:
    """Settings of the stack that runs on this data directory; None where none does."""
    if settings.mongodb_url and settings.valkey_url:
        return settings
    try:
        addresses = orjson.loads((settings.data_dir / ADDRESS_FILE).read_bytes())
        os.kill(addresses["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return settings.model_copy(update={"mongodb_url": addresses["mongodb_url"], "valkey_url": addresses["valkey_url"]})
