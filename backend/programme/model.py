"""A programme's settings as an immutable value, read strictly from its preset."""

from __future__ import annotations

from datetime import timedelta
from importlib import resources
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from backend.kernel.units import Ratio  # noqa: TC001 - pydantic reads annotations at run time
from backend.ledger.lots import PointsPolicy
from backend.market.settings import MarketSettings
from backend.rules.model import Limit, Limits
from backend.rules.profile import shipped_profile
from backend.rules.reading import Fields
from backend.rules.validation import list_limits_problems
from backend.rules.wording import read_limits

if TYPE_CHECKING:
    from collections.abc import Sequence


class PresetError(ValueError):
    """The preset cannot be used, and why."""


class PointsSettings(BaseModel):
    """What a programme's points may do and how long they count.

    The ceiling of ten years follows 深圳市碳普惠管理办法 (Shenzhen Municipal Bureau of Ecology and Environment, 2022).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lifetime_months: int = Field(default=24, ge=1, le=120)
    """Whole calendar months after the month they were earned in during which points count."""
    grace_days: int = Field(default=30, ge=0, le=366)
    """Local days for which points count again that come back after their own date."""
    notice_days: int = Field(default=30, ge=1, le=366)
    """Days before points stop counting at which their owner is told."""
    transferable: bool = False
    """Whether citizens may give points to members of their own family group."""
    debt_allowed: bool = True
    """Whether a correction may leave its citizen owing what is no longer there."""
    repays_debt_first: bool = True
    """Whether what a citizen earns goes to what that citizen owes before anything else."""


class RulesSettings(BaseModel):
    """What a programme asks of the rules its staff publish (Tanhui design)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    past_days: int = Field(default=31, ge=0, le=366)
    """How many days ago a rule may begin when it is published."""
    backtest_needed: bool = True
    """Whether a rule is back-tested, or says why not, before it is submitted."""


class GridFactor(BaseModel):
    """What the local grid emits, and who says so: the figure administrators start from in rules of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    code: str = Field(pattern=r"^[A-Z][A-Z0-9-]{1,39}$")
    mg_per_wh: Ratio
    """Milligrams of CO2e per watt-hour, written ``5978/10``."""
    year: int = Field(ge=2010, le=2100)
    """The year it describes."""
    source_zh: str = Field(min_length=1)
    source_en: str = Field(min_length=1)

    @field_validator("mg_per_wh", mode="before")
    @classmethod
    def _exact(cls, written: object) -> Ratio:
        return Fields("grid_factor", {"mg_per_wh": written}).ratio("mg_per_wh")


class Programme(BaseModel):
    """One city's deployment; ``limits`` are those it starts with, which administrators may change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    code: str = Field(pattern=r"^[a-z][a-z0-9-]{1,31}$")
    name_zh: str
    name_en: str
    time_zone: str
    profile: str
    intake_window_days: int = Field(ge=1, le=366)
    districts: list[str]
    grid_factor: GridFactor
    points: PointsSettings = PointsSettings()
    rules: RulesSettings = RulesSettings()
    market: MarketSettings = MarketSettings()
    limits: tuple[Limit, ...] = ()

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        ZoneInfo(name)
        return name

    @field_validator("limits", mode="before")
    @classmethod
    def _well_formed(cls, written: object) -> tuple[Limit, ...]:
        return read_limits({"limits": written}).limits

    @model_validator(mode="after")
    def _limits_its_own_rules(self) -> Self:
        profile = shipped_profile(self.profile)
        kinds = {kind.code: kind for kind in profile.kinds}
        for problem in list_limits_problems(Limits(revision=0, limits=self.limits), kinds, profile.versions):
            raise problem
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of local days."""
        return ZoneInfo(self.time_zone)

    @property
    def points_policy(self) -> PointsPolicy:
        """What the programme decided on the life of points, as the book needs it."""
        points = self.points
        return PointsPolicy(
            zone=self.zone,
            lifetime_months=points.lifetime_months,
            grace_days=points.grace_days,
            debt_allowed=points.debt_allowed,
            repays_debt_first=points.repays_debt_first,
        )

    @property
    def intake_window(self) -> timedelta:
        """How old an act may be when it is recorded."""
        return timedelta(days=self.intake_window_days)


def load_programme(text: str) -> Programme:
    """The programme a preset describes.

    Raises:
        PresetError: not YAML, an unknown or missing field, or a value out of range.
    """
    try:
        return Programme.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError, KeyError) as error:
        raise PresetError(str(error)) from error


def shipped_presets() -> Sequence[str]:
    """Codes of the presets that come with the product."""
    folder = resources.files("backend.programme") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def shipped_programme(code: str) -> Programme:
    """The preset of that code.

    Raises:
        PresetError: no such preset is shipped.
    """
    if code not in shipped_presets():
        raise PresetError(f"no preset {code!r}; shipped are {', '.join(shipped_presets())}")
    return load_programme((resources.files("backend.programme") / "presets" / f"{code}.yaml").read_text("utf-8"))
