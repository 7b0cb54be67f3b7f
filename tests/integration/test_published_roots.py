"""Roots on a web server: the stranger's script and the command find the receipt's day from the published list."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from backend.cli.console import CommandError
from backend.cli.ledger import app
from backend.ledger.sealing.canonical import canonical_bytes
from tests.unit.sealed import DAY, KEY_NAME, RECEIPT, THIRD, changed, publish, text

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_receipt.py"
DAYS = {
    "version": 1,
    "programme": "zhenjiang",
    "keys": {KEY_NAME: DAY["keys"][KEY_NAME]},
    "days": [
        {"date": "2026-11-20", "final": True, "first": 4, "last": 9},
        {"date": "2026-11-21", "final": True, "first": 1, "last": 3},
        {"date": "file:///etc/hosts?", "final": True, "first": 10, "last": 10},
    ],
}


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[str]:
    """The address of published roots: a list of days, the receipt's day, another one, and what is neither."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "index.html").write_bytes(canonical_bytes({**DAYS, "days": DAYS["days"][:2]}))  # type: ignore[index]
    (folder / "2026-11-21.json").write_bytes(canonical_bytes(DAY))
    (folder / "other.json").write_bytes(canonical_bytes(publish([THIRD])))
    (folder / "broken.json").write_bytes(b"<html>")
    for name, listing in (("crooked", DAYS), ("empty", {**DAYS, "days": []})):
        (folder / name).mkdir()
        (folder / name / "index.html").write_bytes(canonical_bytes(listing))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    path = tmp_path / "receipt.json"
    path.write_bytes(text(RECEIPT))
    return path


def stranger(receipt: Path, where: str) -> tuple[int, str]:
    """Exit code and last line of the script."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(receipt), where], capture_output=True, encoding="utf-8", check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()[-1]


def command(receipt: Path, where: str) -> tuple[int, str]:
    """Exit code of the command, and what it complains of."""
    done = CliRunner().invoke(app, ["verify", str(receipt), "--roots", where])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, CommandError)
        return done.exit_code, str(done.exception)
    return done.exit_code, " ".join(done.stderr.split())


def test_both_follow_the_list_to_the_day(roots: str, receipt: Path) -> None:
    for where in (roots, f"{roots}2026-11-21.json"):
        assert stranger(receipt, where) == (0, "everything holds")
        assert command(receipt, where) == (0, "")


def test_both_say_what_is_not_there(roots: str, receipt: Path) -> None:
    assert stranger(receipt, f"{roots}other.json") == (1, "FAIL they contain this very block")
    assert command(receipt, f"{roots}other.json") == (
        1,
        "✗ not so: the day contains this very block (no block 2 on 2026-11-21)",
    )
    for where, said in (
        (f"{roots}none.json", f"{roots}none.json: Client error '404 File not found'"),
        (f"{roots}broken.json", "✗ not so: the published day has the form of one (day: no JSON (JSONDecodeError))"),
        (f"{roots}empty/", f"{roots}empty/ lists no day with block 2"),
        (f"{roots}crooked/", f"{roots}crooked/: days.days[2].date is no text like"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1/: "),
        ("http://[broken/", "http://[broken/: "),
    ):
        code, complaint = command(receipt, where)
        assert (code, complaint[: len(said)]) == (1, said)
        code, complaint = stranger(receipt, where)
        assert (code, complaint[:4]) == (1, "FAIL")


def test_neither_fetches_anything_but_a_day(roots: str, receipt: Path) -> None:
    receipt.write_bytes(text(changed(RECEIPT, ("block", "height"), 10)))
    assert stranger(receipt, f"{roots}crooked/")[0] == 1
    code, complaint = command(receipt, f"{roots}crooked/")
    assert code == 1
    assert "is no text like" in complaint
