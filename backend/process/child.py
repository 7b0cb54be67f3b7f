"""A child process that ends with its parent, however the parent ends. Decides nothing about restarts or readiness.

The child runs in its own session, so Ctrl-C in the terminal reaches only the parent, which decides the order of
shutdown. ``watcher.py`` tells how the parent's death, SIGKILL included, reaches the child on Linux and macOS alike.
A copy of the parent made by fork without exec counts as the parent: the child stays until the last copy is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from io import FileIO

_WATCHER = Path(__file__).with_name("watcher.py")
GRACE_S = 10


@dataclass(eq=False)
class ChildProcess:
    """One running command; it and its whole process group are gone soon after this object's process is."""

    command: tuple[str, ...]
    _process: subprocess.Popen[bytes]
    _life: FileIO

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        cwd: Path | None = None,
        grace_s: int = GRACE_S,
    ) -> ChildProcess:
        """Run ``command``, its output appended to ``log`` or shared with the parent; returns once it is loaded.

        ``grace_s`` is the time between SIGTERM and SIGKILL when the parent has died.

        Raises:
            OSError: the program does not exist or is not one this machine can run.
        """
        life_read, life_write = os.pipe()
        status_read, status_write = os.pipe()
        life, status = open(life_write, "wb", buffering=0), open(status_read, "rb")  # noqa: PTH123, SIM115 - descriptors
        launcher = [
            sys.executable,
            "-I",
            "-S",
            str(_WATCHER),
            str(life_read),
            str(status_write),
            str(grace_s),
            *command,
        ]
        try:
            with contextlib.ExitStack() as stack:
                output = stack.enter_context(log.open("ab")) if log else None
                process = subprocess.Popen(  # noqa: S603 - the command is ours, and no shell reads it
                    launcher,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=env,
                    cwd=cwd,
                    pass_fds=(life_read, status_write),
                    start_new_session=True,
                )
        except BaseException:
            life.close()
            status.close()
            raise
        finally:
            os.close(life_read)
            os.close(status_write)
        with status:
            failure = status.read()
        child = cls(tuple(command), process, life)
        if failure:
            child.wait()
            raise OSError(int(failure), os.strerror(int(failure)), command[0])
        return child

    @property
    def pid(self) -> int:
        """Process id of the command itself."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status if the child has ended, negative for a signal; None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._life.close()  # lets the watcher go
        return status

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Exit status, waiting for it at most ``timeout_s``; None if the child still runs then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self.poll()

    def terminate(self) -> None:
        """Ask the child to end (SIGTERM) and return at once."""
        self._process.terminate()

    def stop(self, timeout_s: float = GRACE_S) -> int:
        """End the child: SIGTERM, and SIGKILL after ``timeout_s``; its exit status."""
        self.terminate()
        status = self.wait(timeout_s)
        return self.kill() if status is None else status

    def kill(self) -> int:
        """End the child and all it started with SIGKILL; its exit status."""
        if self.poll() is None:
            # Not reaped yet, so the group's number is still its own. macOS answers EPERM for a group of zombies.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        status = self._process.wait()
        self._life.close()
        return status
