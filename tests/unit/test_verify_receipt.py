"""The stranger's script and the command: both accept what holds, and refuse whatever was changed."""

from __future__ import annotations

import ast
import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from backend.cli.console import CommandError
from backend.cli.ledger import app
from backend.ledger.sealing import canonical
from backend.ledger.sealing.receipts import Check
from tests.unit.sealed import DAY, FIRST, MALFORMED, RECEIPT, SECOND, TRADED, another, changed, publish, scalars, text

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_receipt.py"
SEED = 20_261_122


def script(receipt: Path, roots: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: PLW1510 - the exit code is asserted
        [sys.executable, str(SCRIPT), str(receipt), str(roots)], capture_output=True, encoding="utf-8"
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    receipt, roots = tmp_path / "receipt.json", tmp_path / "roots.json"
    receipt.write_bytes(canonical.canonical_bytes(RECEIPT))
    roots.write_bytes(canonical.canonical_bytes(DAY))
    return receipt, roots


def test_the_strangers_script_is_short_and_imports_nothing_of_ours() -> None:
    source = SCRIPT.read_text("utf-8")
    assert source.count("\n") < 120
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names])
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


def test_the_strangers_script_says_what_holds(files: tuple[Path, Path]) -> None:
    done = script(*files)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("everything holds\n")
    assert "公交" in done.stdout
    files[0].write_bytes(text(changed(RECEIPT, ("transaction", "postings", 0, "amount"), 41)))
    done = script(*files)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "FAIL transaction tx_00000000000000000000000000000007 is in block 2"


def test_the_strangers_script_verifies_a_trade(files: tuple[Path, Path]) -> None:
    files[0].write_bytes(canonical.canonical_bytes(TRADED))
    done = script(*files)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("everything holds\n")
    assert "1-400,901-1500" in done.stdout
    for path, forged in (
        (("draws", 1, "final"), True),
        (("draws", 0, "owner"), "citizen:bob"),
        (("cause", "serials"), "1-400,901-1501"),
        (("postings", 0, "amount"), 2_000_000),
    ):
        files[0].write_bytes(text(changed(TRADED, ("transaction", *path), forged)))
        done = script(*files)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.splitlines()[-1] == "FAIL transaction tx_00000000000000000000000000000006 is in block 2"


@pytest.fixture
def stranger(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> Callable[[bytes, bytes], str]:
    """The script's answer, in this process: its last line, where it fails."""
    found = importlib.util.spec_from_file_location("verify_receipt", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)

    def answer(receipt: bytes, roots: bytes) -> str:
        files[0].write_bytes(receipt)
        files[1].write_bytes(roots)
        try:
            module.main(str(files[0]), str(files[1]))
        except SystemExit:
            pass
        # What the script itself catches and says.
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            return f"FAIL {error!r}"
        return capsys.readouterr().out.splitlines()[-1]

    return answer


def test_the_strangers_script_refuses_every_changed_field(stranger: Callable[[bytes, bytes], str]) -> None:
    assert stranger(text(RECEIPT), text(DAY)) == "everything holds"
    for path, value in scalars(RECEIPT):
        assert stranger(text(changed(RECEIPT, path, another(value))), text(DAY)).startswith("FAIL"), path
    for path, value in scalars(DAY):
        assert stranger(text(RECEIPT), text(changed(DAY, path, another(value)))).startswith("FAIL"), path
    for given_text, place in MALFORMED:
        assert stranger(given_text, text(DAY)).startswith("FAIL"), place
        assert stranger(text(RECEIPT), given_text).startswith("FAIL"), place


def test_the_strangers_script_and_ours_agree_on_any_byte(stranger: Callable[[bytes, bytes], str]) -> None:
    chance = random.Random(SEED)
    whole = text(RECEIPT)
    for place in chance.sample(range(len(whole)), 200):
        forged = bytearray(whole)
        forged[place] ^= 1 << chance.randrange(8)
        assert stranger(bytes(forged), text(DAY)).startswith("FAIL"), (SEED, place)


def test_the_command_verifies_files_and_standard_input(files: tuple[Path, Path]) -> None:
    receipt, roots = map(str, files)
    done = CliRunner().invoke(app, ["verify", receipt, "--roots", roots])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"✓ {check}" for check in Check]
    piped = CliRunner().invoke(app, ["verify", "-", "--without-roots"], input=files[0].read_bytes())
    assert piped.exit_code == 0
    assert piped.stdout.splitlines() == [f"✓ {check}" for check in list(Check)[:4]]
    files[1].write_bytes(text(publish([FIRST, SECOND], is_final=False)))
    running = CliRunner().invoke(app, ["verify", receipt, "--roots", roots])
    assert running.exit_code == 0
    assert running.stdout.splitlines()[-1] == "the day was not over when these roots were published"


def test_the_command_says_what_fails(files: tuple[Path, Path]) -> None:
    files[0].write_bytes(text(changed(RECEIPT, ("proof", "index"), 6)))
    done = CliRunner().invoke(app, ["verify", str(files[0]), "--roots", str(files[1])])
    assert done.exit_code == 1
    assert " ".join(done.stderr.split()) == (
        "✗ not so: the transaction is in the block (transaction, proof, block.size or block.root was changed)"
    )
    files[0].write_bytes(b"[")
    done = CliRunner().invoke(app, ["verify", str(files[0]), "--roots", str(files[1])])
    assert done.exit_code == 1
    assert "no JSON" in done.stderr


def test_the_command_wants_roots_or_to_be_told_that_there_are_none(files: tuple[Path, Path], tmp_path: Path) -> None:
    receipt, roots = map(str, files)
    for options in ([], ["--roots", roots, "--without-roots"]):
        assert CliRunner().invoke(app, ["verify", receipt, *options]).exit_code == 2
    missing = CliRunner().invoke(app, ["verify", str(tmp_path / "none.json"), "--without-roots"])
    assert isinstance(missing.exception, CommandError)
    assert str(missing.exception).endswith("none.json: No such file or directory")
    unreachable = CliRunner().invoke(app, ["verify", receipt, "--roots", "https://[broken/"])
    assert isinstance(unreachable.exception, CommandError)


def test_a_document_cannot_draw_on_the_screen(files: tuple[Path, Path]) -> None:
    for name, value in (("key", "\x1b[8m hidden"), ("key", "ok\neverything holds"), ("key", "\u202e\u2028")):
        files[0].write_bytes(text(changed(RECEIPT, ("transaction", name), value)))
        done = script(*files)
        assert done.returncode == 1
        assert "everything holds" not in done.stdout.splitlines()
        assert all(line.isprintable() for line in done.stdout.split("\n"))


@pytest.mark.parametrize("wrong", ["tx_1 is in block 1\nok", "tx_" + "A" * 32, "", "\x1b[8m"])
def test_an_id_that_is_none_is_refused_before_it_is_shown(files: tuple[Path, Path], wrong: str) -> None:
    files[0].write_bytes(text(changed(RECEIPT, ("transaction", "id"), wrong)))
    done = script(*files)
    assert (done.returncode, done.stdout) == (1, "FAIL it is a receipt of version 1\n")


@pytest.mark.parametrize("path", [{}, "", {"0" * 64: 1}])
def test_a_path_that_is_no_list_is_refused(files: tuple[Path, Path], path: object) -> None:
    files[0].write_bytes(text(changed(RECEIPT, ("proof", "path"), path)))
    assert script(*files).returncode == 1
