"""Reads the factors that come with the product, strictly: every field, none more, each mode once. No other source."""

from __future__ import annotations

from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field

from backend.kernel.errors import Text
from backend.market.neutrality.model import Factor, Factors, Per, TravelMode


class FactorsError(ValueError):
    """The file of factors cannot be used, and why."""


class _Both(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    zh: str = Field(min_length=1)
    en: str = Field(min_length=1)

    def text(self) -> Text:
        return Text(self.zh, self.en)


class _Factor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mode: str
    per: str
    mg_per_km: int = Field(ge=1, le=10_000_000)
    note: _Both


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: str = Field(pattern=r"^[0-9]{4}-[0-9]+$")
    document: _Both
    publisher: _Both
    year: int = Field(ge=2000, le=2100)
    factors: list[_Factor] = Field(min_length=1)


def read_factors(text: str) -> Factors:
    """The factors that a file gives.

    Raises:
        FactorsError: not YAML, an unknown or missing field, a value out of range, or a mode twice.
    """
    try:
        file = _File.model_validate(yaml.safe_load(text))
        found = [_factor(one, file) for one in file.factors]
    except (yaml.YAMLError, ValueError) as error:
        raise FactorsError(str(error)) from error
    by_mode = {factor.mode: factor for factor in found}
    if len(by_mode) != len(found):
        raise FactorsError("a mode stands twice")
    return Factors(file.version, by_mode)


def _factor(one: _Factor, file: _File) -> Factor:
    return Factor(
        mode=TravelMode(one.mode),
        per=Per(one.per),
        mg_per_km=one.mg_per_km,
        document=file.document.text(),
        publisher=file.publisher.text(),
        year=file.year,
        note=one.note.text(),
    )


@cache
def shipped_factors() -> Factors:
    """The factors that come with the product."""
    return read_factors((resources.files("backend.market.neutrality") / "factors.yaml").read_text("utf-8"))
