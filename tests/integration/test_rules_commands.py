"""``tanhui rules publish`` and ``tanhui rules list`` against a running deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from typer.testing import CliRunner

from backend.cli.console import CommandError
from backend.cli.rules import app
from backend.rules.profile import shipped_profile
from backend.rules.refusals import ForeignProfileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from backend.settings import Settings


@pytest.fixture
def deployment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commands speak to the test's servers."""
    monkeypatch.setenv("TANHUI_MONGODB_URL", str(settings.mongodb_url))
    monkeypatch.setenv("TANHUI_VALKEY_URL", str(settings.valkey_url))
    monkeypatch.setenv("TANHUI_DATABASE", settings.database)
    monkeypatch.setenv("TANHUI_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("COLUMNS", "200")
    yield
    # A command logs to the standard error of its time.
    structlog.reset_defaults()


def run(*arguments: str) -> Result:
    """The command's outcome."""
    return CliRunner().invoke(app, arguments)


def test_rules_are_published_once_and_listed(deployment: None) -> None:
    # The deployment publishes its own profile when it opens: nothing is left for the command.
    assert run("publish", "conservative").output == "published 0 new rule versions of conservative\n"
    listed = run("list").output
    assert "conservative, revision 1" in listed
    rows = [line.split() for line in listed.splitlines() if " R-" in line]
    assert len(rows) == len(shipped_profile("conservative").versions)
    assert ["│", "R-BUS2", "v1", "│", "bus_ride", "│", "80000/1", "│", "ever", "│"] in [row[:10] for row in rows]


def test_another_profile_or_no_file_is_refused(deployment: None, tmp_path: Path) -> None:
    assert isinstance(run("publish", "shanghai-2026").exception, ForeignProfileError)
    missing = run("publish", str(tmp_path / "none.yaml"))
    assert isinstance(missing.exception, CommandError)
    assert "is neither a shipped profile nor a readable file" in str(missing.exception)
