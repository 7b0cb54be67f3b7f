"""Medici, the double-entry ledger for Node and MongoDB, as the opponent: installed for one run, driven over a pipe."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).with_name("medici")
PROGRAM = "bench.js"
MANIFEST = "package.json"
DATABASE = "medici"
INSTALL = (
    "install",
    "--engine-strict",
    "--no-package-lock",
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    "--loglevel=error",
)
INSTALL_TIMEOUT_S = 120
# Medici's default, a snapshot of each balance a day, makes every later balance scan all that was written since by
# anybody: measured here, 275 transfers/s fall to 56 within 8,000. Without snapshots it is fastest, so it runs without.
SNAPSHOT_S = 0


class MediciError(RuntimeError):
    """Medici ended before it answered."""


class Medici:
    """A running Medici with funded accounts."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers

    def rate_per_s(self, transfers: int, *, at_once: int) -> float:
        """Guarded transfers per second of ``at_once`` callers.

        Raises:
            MediciError: it failed; its own words are on standard error.
        """
        self._requests.write(orjson.dumps({"concurrency": at_once, "transfers": transfers}) + b"\n")
        self._requests.flush()
        answer = self._answers.readline()
        if not answer:
            raise MediciError("Medici failed")
        return float(transfers / orjson.loads(answer)["seconds"])


@contextmanager
def running_medici(url: str, folder: Path, accounts: int) -> Iterator[Medici | None]:
    """Install Medici into ``folder`` and run it against the mongod at ``url``; None where Node or npm cannot.

    Raises:
        MediciError: it did not end well, for instance because its own accounts do not add up.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm):
        print("  Medici is not measured: Node and npm are not installed")
        yield None
        return
    if not _install(npm, folder):
        yield None
        return
    command = [node, PROGRAM, url, DATABASE, str(accounts), str(SNAPSHOT_S)]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        if child.stdin is None or child.stdout is None:
            raise MediciError("Medici has no pipes")
        try:
            yield Medici(child.stdin, child.stdout)
        except BaseException:
            child.kill()
            raise
        child.stdin.close()
        if child.wait():
            raise MediciError("Medici did not end well")


def _install(npm: str, folder: Path) -> bool:
    """Install the pinned packages; False, having said why, where npm cannot."""
    folder.mkdir(parents=True)
    for name in (MANIFEST, PROGRAM):
        shutil.copy(SOURCE / name, folder / name)
    try:
        subprocess.run([npm, *INSTALL], cwd=folder, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        print(f"  Medici is not measured: npm says {error.stderr.decode(errors='replace').strip()[:300]}")
    except subprocess.TimeoutExpired:
        print(f"  Medici is not measured: npm took more than {INSTALL_TIMEOUT_S} s")
    else:
        return True
    return False
