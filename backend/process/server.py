"""What every embedded server needs: a program, a free port, a lock on its data, a bounded start, an honest error.

Speaks no server's protocol and imports no driver: a ``Recipe`` says how one kind of server is run and when it is ready.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import re
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backend.process.child import ChildProcess
from backend.process.errors import (
    DataDirInUseError,
    MissingLibraryError,
    NoServerBinaryError,
    PortTakenError,
    ServerStartError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 30
POLL_S = 0.02
_PORT_ATTEMPTS = 5
_OLD_PORT_PATIENCE_S = 2
_PORT_FILE = "port"
_TAIL_LINES = 12
_TAIL_LINE_LENGTH = 400

# Debian and Ubuntu package of each library that the server programs are linked with beyond the C library.
_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
    "libgcc_s.so.1": "libgcc-s1",
}
_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: ([^\s:]+)|Library not loaded: (\S+)")


@dataclass(frozen=True)
class Recipe:
    """How one kind of server is found, run on a port and seen to be ready.

    Both hooks are called under the lock on the directory: ``await_data`` once, to wait while a server whose starter has
    died is still on it; ``prepare`` before each attempt, with the port about to be used.
    """

    server: str
    url_variable: str
    find: Callable[[], Path]
    arguments: Callable[[int], Sequence[str]]
    is_ready: Callable[[int], bool]
    await_data: Callable[[], None] = lambda: None
    prepare: Callable[[int], None] = lambda _port: None


def installed_file(distribution: str, name: str) -> Path | None:
    """A file that an installed wheel brought along, found without importing any of its code; None if absent."""
    try:
        path = Path(str(importlib.metadata.distribution(distribution).locate_file(name)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return True
    return False


def free_ports(count: int) -> list[int]:
    """So many different loopback ports nobody listens on now; another process may take one before a server does."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def accepts_connections(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def log_tail(log: Path) -> str:
    """The last lines of a log, each shortened, or what to say when there are none."""
    try:
        with log.open(errors="replace") as file:
            lines = deque(file, _TAIL_LINES)
    except FileNotFoundError:
        lines = deque()
    return "\n".join(line.rstrip()[:_TAIL_LINE_LENGTH] for line in lines) or "(empty)"


@dataclass(eq=False)
class DataDirLock:
    """Exclusive right to a data directory, ended by ``release`` or by the death of the process that took it."""

    _descriptor: int | None

    @classmethod
    def take(cls, data_dir: Path, *, server: str) -> DataDirLock:
        """Take the lock, making the directory where it is missing.

        Raises:
            DataDirInUseError: a living process holds it.
        """
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data_dir / "starter.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode() or "unknown"
            os.close(descriptor)
            raise DataDirInUseError(server, data_dir, owner) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return cls(descriptor)

    def release(self) -> None:
        """Give the directory free; doing so twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(eq=False)
class ServerProcess:
    """One embedded server that answers on ``port``: its process, its log and its hold on the data directory."""

    server: str
    port: int
    log: Path
    child: ChildProcess
    _lock: DataDirLock

    @classmethod
    def start(cls, recipe: Recipe, data_dir: Path, *, port: int | None = None) -> ServerProcess:
        """Run the server on ``port``, or on the one it last had here, or, where that is taken, on a free one.

        Raises:
            DataDirInUseError: a living process serves this directory.
            NoServerBinaryError: no program for this machine.
            MissingLibraryError: the program lacks a shared library.
            ServerStartError: it ended or was not ready within 30 s.
        """
        program = recipe.find()
        lock = DataDirLock.take(data_dir, server=recipe.server)
        log = data_dir / f"{recipe.server}.log"
        try:
            recipe.await_data()
            chosen = port or last_port(data_dir) or free_ports(1)[0]
            attempts_left = _PORT_ATTEMPTS if port is None else 1
            while True:
                recipe.prepare(chosen)
                try:
                    child = run(recipe, program, chosen, log)
                    break
                except PortTakenError:
                    if not (attempts_left := attempts_left - 1):
                        raise
                    chosen = free_ports(1)[0]
            (data_dir / _PORT_FILE).write_text(str(chosen))
            return cls(recipe.server, chosen, log, child, lock)
        except BaseException:
            lock.release()
            raise

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.child.pid

    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self.child.poll() is None

    def failure(self, reason: str) -> ServerStartError:
        """The error that says why this server is of no use, with its last words."""
        return ServerStartError(self.server, reason, self.log, log_tail(self.log))

    def stop(self) -> None:
        """End the server (SIGTERM, SIGKILL after 10 s) and give its directory free; doing so twice is harmless."""
        self.child.stop()
        self._lock.release()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL) and give its directory free."""
        self.child.kill()
        self._lock.release()


def last_port(data_dir: Path) -> int | None:
    """The port of the previous start on this directory, if there was one and it is free now or shortly."""
    try:
        port = int((data_dir / _PORT_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    deadline = time.monotonic() + _OLD_PORT_PATIENCE_S  # a server that has given up its data may still be ending
    while not (is_free := is_port_free(port)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return port if is_free else None


def run(recipe: Recipe, program: Path, port: int, log: Path) -> ChildProcess:
    """Run a server, without a lock on its data, and wait until it is ready.

    Raises:
        ServerError: with the reason and the remedy.
    """
    if log.exists():  # one log per start, so that its words explain this start and no other
        log.replace(log.with_suffix(".log.1"))
    if not is_port_free(port):  # asked first, because whoever listens there might be taken for this server
        raise PortTakenError(recipe.server, f"port {port} is taken", log, log_tail(log))
    try:
        child = ChildProcess.start([str(program), *recipe.arguments(port)], log=log)
    except OSError as error:
        raise NoServerBinaryError(recipe.server, recipe.url_variable, f"{program}: {error.strerror}") from error
    try:
        is_ready = _await_ready(recipe, child, port)
    except BaseException:
        child.kill()
        raise
    if is_ready:
        return child
    status = child.poll()
    child.kill()  # where it neither ended nor got ready
    words = log.read_text(errors="replace")
    if missing := _MISSING_LIBRARY.search(words):
        library = missing[1] or missing[2]
        raise MissingLibraryError(recipe.server, library, _PACKAGES.get(library), recipe.url_variable)
    if "Address already in use" in words:
        raise PortTakenError(recipe.server, f"port {port} is taken", log, log_tail(log))
    raise ServerStartError(recipe.server, _describe_end(status), log, log_tail(log))


def _await_ready(recipe: Recipe, child: ChildProcess, port: int) -> bool:
    """Wait until the server is ready; False if it ended first or the time is up."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while child.poll() is None and time.monotonic() < deadline:
        if recipe.is_ready(port):
            return child.poll() is None
        time.sleep(POLL_S)
    return False


def _describe_end(status: int | None) -> str:
    if status is None:
        return f"not ready within {START_TIMEOUT_S} s"
    if status == -signal.SIGILL:
        return "it ended with SIGILL: MongoDB 5 and later need a processor with AVX (x86_64) or ARMv8.2-A"
    if status < 0:
        return f"it ended with {signal.Signals(-status).name}"
    return f"it ended with exit status {status}"
