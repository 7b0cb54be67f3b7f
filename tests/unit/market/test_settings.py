"""A preset's market settings: what can be used, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from backend.market.settings import MarketSettings
from backend.programme.model import shipped_presets, shipped_programme


def test_a_preset_that_says_nothing_gets_usable_settings() -> None:
    settings = MarketSettings()

    assert (settings.lot_g, settings.tick_fen, settings.band_bps) == (1_000, 1, 1_000)
    assert [(hours.opens, hours.closes) for hours in settings.sessions] == [("09:30", "11:30"), ("13:00", "15:00")]
    assert settings.weekdays == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("code", shipped_presets())
def test_every_shipped_preset_has_a_market(code: str) -> None:
    assert shipped_programme(code).market.aggregation_threshold_g > 0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"sessions": [{"opens": "09:30", "closes": "09:30"}]}, "09:30 is not before 09:30"),
        ({"sessions": [{"opens": "9:30", "closes": "11:30"}]}, "string_pattern_mismatch"),
        ({"sessions": [{"opens": "23:30", "closes": "24:00"}]}, "string_pattern_mismatch"),
        ({"call": {"opens": "09:15", "closes": "09:45"}}, "the hours of the market overlap"),
        (
            {"call": None, "sessions": [{"opens": "13:00", "closes": "15:00"}, {"opens": "09:30", "closes": "11:30"}]},
            "the hours of the market overlap",
        ),
        ({"weekdays": [0]}, "weekdays are numbered from 1 to 7"),
        ({"lot_g": 0}, "greater_than_equal"),
        ({"tick_fen": 1.5}, "int_type"),
        ({"taker_fee_bps": 1_001}, "less_than_equal"),
        ({"open_orders": 151}, "less_than_equal"),
        ({"fee": 1}, "extra_forbidden"),
    ],
)
def test_what_cannot_be_used_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MarketSettings.model_validate(given)

    assert problem in f"{refused.value} {[error['type'] for error in refused.value.errors()]}"
