"""``tanhui up`` leaves nothing behind: no process, and with ``--ephemeral`` no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

START_S = 90
STOP_S = 60
MARK = "TANHUI_TEST_MARK"


def marked(mark: str) -> list[str]:
    """Command lines of the living processes that were started with this mark in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def wait_until(holds: Callable[[], bool], seconds: int) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_up_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    mark = str(os.getpid())
    log = tmp_path / "up.log"
    with log.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "backend.cli", "up", "--ephemeral", "--port", "0", "--workers", "1"],
            env={**os.environ, MARK: mark, "TMPDIR": str(tmp_path), "COLUMNS": "300"},
            stdout=output,
            stderr=output,
        )
    try:
        assert wait_until(lambda: b"Ctrl-C stops" in log.read_bytes(), START_S), log.read_text()
        # This command, mongod, Valkey, API, worker with its child, beat, and their watchers.
        assert len(marked(mark)) >= 7
        up.send_signal(signal.SIGTERM)
        status = up.wait(STOP_S)
        assert wait_until(lambda: not marked(mark), STOP_S), marked(mark)
    finally:
        up.kill()
        up.wait()
    assert status == 0, log.read_text()
    assert list(tmp_path.iterdir()) == [log]
