"""Reading a rule profile: YAML text in, checked values out. Stores nothing and knows no citizen."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from backend.kernel.units import Unit
from backend.rules.errors import ProfileError
from backend.rules.formula import PerQuantity
from backend.rules.model import (
    HALF,
    POINT_PER_GRAM,
    Cap,
    Category,
    Confidence,
    EvidenceTier,
    Kind,
    Measure,
    Methodology,
    Period,
    Profile,
    RuleVersion,
)
from backend.rules.reading import Fields, read_yaml
from backend.rules.validation import list_problems

if TYPE_CHECKING:
    from collections.abc import Mapping

_SNAKE = r"[a-z][a-z0-9_]{0,39}"
_PROFILE_CODE = r"[a-z][a-z0-9-]{0,39}"
_CAPITALS = r"[A-Z][A-Z0-9-]{1,39}"
_EARLIEST_YEAR = 1990


def load_profile(text: str) -> Profile:
    """The profile that the YAML text describes, found consistent.

    Raises:
        ProfileError: it cannot be read or contradicts itself; the path says where.
    """
    fields = read_yaml(text)
    code = fields.text("profile", _PROFILE_CODE)
    name_zh, name_en = fields.text("name_zh"), fields.text("name_en")
    methodologies = _read_methodologies(fields)
    kinds = tuple(_read_kind(entry) for entry in fields.mappings("kinds"))
    versions = tuple(_read_version(entry, code, methodologies) for entry in fields.mappings("rules"))
    fields.close()
    profile = Profile(code=code, name_zh=name_zh, name_en=name_en, kinds=kinds, versions=versions)
    for problem in list_problems(profile):
        raise problem
    unused = methodologies.keys() - {version.methodology.code for version in versions}
    if unused:
        raise ProfileError(f"methodologies[{min(unused)}]", "no rule takes its factor from it")
    return profile


def list_shipped_profiles() -> tuple[str, ...]:
    """Codes of the profiles that come with the software."""
    folder = resources.files("backend.rules").joinpath("profiles")
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def shipped_profile(code: str) -> Profile:
    """The profile of that code that comes with the software.

    Raises:
        ProfileError: there is none, or it is broken.
    """
    shipped = list_shipped_profiles()
    if code not in shipped:
        raise ProfileError(code, f"not shipped; shipped are: {', '.join(shipped)}")
    file = resources.files("backend.rules").joinpath("profiles", f"{code}.yaml")
    profile = load_profile(file.read_text(encoding="utf-8"))
    if profile.code != code:
        raise ProfileError(f"{code}.yaml", f"holds the profile {profile.code}")
    return profile


def _read_methodologies(fields: Fields) -> Mapping[str, Methodology]:
    found: dict[str, Methodology] = {}
    for entry in fields.mappings("methodologies"):
        methodology = Methodology(
            code=entry.text("code", _CAPITALS),
            title_zh=entry.text("title_zh"),
            title_en=entry.text("title_en"),
            publisher=entry.text("publisher"),
            year=entry.integer("year", at_least=_EARLIEST_YEAR),
            number=entry.optional_text("number"),
        )
        entry.close()
        if methodology.code in found:
            raise entry.problem("code", f"{methodology.code} is given twice")
        found[methodology.code] = methodology
    return found


def _read_kind(entry: Fields) -> Kind:
    claims = tuple(_read_names(path, value) for path, value in entry.items("claims", optional=True))
    required = tuple(_name(path, value) for path, value in entry.items("required_attributes", optional=True))
    kind = Kind(
        code=entry.text("code", _SNAKE),
        unit=entry.choice("unit", Unit),
        category=entry.choice("category", Category),
        name_zh=entry.text("name_zh"),
        name_en=entry.text("name_en"),
        maximum=entry.integer("maximum"),
        claims=claims,
        required_attributes=required,
        has_duration=entry.flag("has_duration", default=False),
    )
    entry.close()
    return kind


def _read_names(path: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ProfileError(path, "must be a non-empty list of attribute names")
    return tuple(_name(f"{path}[{index}]", name) for index, name in enumerate(value))


def _name(path: str, value: object) -> str:
    return Fields(path, {"name": value}).text("name", _SNAKE)


def _read_version(entry: Fields, profile: str, methodologies: Mapping[str, Methodology]) -> RuleVersion:
    source = entry.text("methodology")
    if source not in methodologies:
        raise entry.problem("methodology", f"{source} is not among the methodologies")
    version = RuleVersion(
        rule=entry.text("code", _CAPITALS),
        version=entry.integer("version"),
        kind=entry.text("kind", _SNAKE),
        profile=profile,
        methodology=methodologies[source],
        formula=PerQuantity(entry.ratio("factor")),
        points=entry.ratio("points", default=POINT_PER_GRAM),
        quantified=entry.flag("quantified"),
        full_credit_tier=entry.choice("full_credit_tier", EvidenceTier),
        declared_share=entry.ratio("declared_share", default=HALF),
        minimum=entry.integer("minimum"),
        maximum=entry.integer("maximum"),
        bounds_basis=entry.text("bounds_basis"),
        caps=tuple(_read_cap(cap) for cap in entry.mappings("caps")),
        confidence=entry.choice("confidence", Confidence),
        note_zh=entry.text("note_zh"),
        note_en=entry.text("note_en"),
        valid_from=entry.moment("valid_from"),
        valid_to=entry.moment("valid_to"),
        enabled=entry.flag("enabled", default=True),
        why_disabled_zh=entry.optional_text("why_disabled_zh"),
        why_disabled_en=entry.optional_text("why_disabled_en"),
    )
    entry.close()
    return version


def _read_cap(entry: Fields) -> Cap:
    cap = Cap(
        group=entry.text("group", _SNAKE),
        period=entry.choice("period", Period),
        measure=entry.choice("measure", Measure),
        limit=entry.integer("limit"),
        basis=entry.text("basis"),
    )
    entry.close()
    return cap
