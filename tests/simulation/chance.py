"""Where simulations and fault tests take their chance from, so that a failing history can be run again.

``TANHUI_TEST_PROFILE=nightly`` makes histories long and their seeds new; otherwise they are short and always the same.
``TANHUI_SEED=<number>`` repeats the history of that seed, as printed by the test that failed.
"""

from __future__ import annotations

import os
import secrets
from random import Random

IS_NIGHTLY = os.environ.get("TANHUI_TEST_PROFILE") == "nightly"
EVERYDAY_SEED = 20261121


def chosen_seed() -> int:
    """The seed of this run, printed so that pytest shows it beside a failure."""
    given = os.environ.get("TANHUI_SEED")
    number = int(given) if given else secrets.randbelow(2**32) if IS_NIGHTLY else EVERYDAY_SEED
    print(f"rerun with TANHUI_SEED={number}")  # noqa: T201 - a failing history must be repeatable
    return number


def seeded() -> Random:
    """Chance of this run's seed."""
    return Random(chosen_seed())
