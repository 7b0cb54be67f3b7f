"""Reading a rule profile: YAML text in, checked values out. Stores nothing and knows no citizen.

Kinds and methodologies that come with the software are shared by all profiles; a profile file may add its own, which
stand in for shared ones of the same code.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from backend.kernel.errors import Text
from backend.rules.errors import ProfileError
from backend.rules.model import Kind, Methodology, Profile
from backend.rules.reading import read_yaml
from backend.rules.validation import list_problems
from backend.rules.wording import KEBAB, read_kind, read_methodology, read_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backend.rules.reading import Fields

Item = TypeVar("Item", Kind, Methodology)

_KINDS = "kinds"
_METHODOLOGIES = "methodologies"


def load_profile(text: str) -> Profile:
    """The profile that the YAML text describes, found consistent.

    Raises:
        ProfileError: it cannot be read or contradicts itself; the path says where.
    """
    fields = read_yaml(text)
    code = fields.text("profile", KEBAB)
    name_zh, name_en = fields.text("name_zh"), fields.text("name_en")
    methodologies = {**shipped_methodologies(), **_read_coded(fields, _METHODOLOGIES, read_methodology)}
    kinds = {**shipped_kinds(), **_read_coded(fields, _KINDS, read_kind)}
    versions = tuple(
        read_version(entry, profile=code, methodologies=methodologies) for entry in fields.mappings("rules")
    )
    fields.close()
    profile = Profile(code=code, name_zh=name_zh, name_en=name_en, kinds=tuple(kinds.values()), versions=versions)
    for problem in list_problems(profile):
        raise problem
    return profile


def list_shipped_profiles() -> tuple[str, ...]:
    """Codes of the profiles that come with the software."""
    names = (entry.name for entry in resources.files("backend.rules").joinpath("profiles").iterdir())
    found = {name.removesuffix(".yaml") for name in names if name.endswith(".yaml")}
    return tuple(sorted(found - {_KINDS, _METHODOLOGIES}))


@cache
def shipped_profile(code: str) -> Profile:
    """The profile of that code that comes with the software.

    Raises:
        ProfileError: there is none, or it is broken.
    """
    shipped = list_shipped_profiles()
    if code not in shipped:
        names = ", ".join(shipped)
        raise ProfileError(code, Text(f"没有随附此口径；随附的有：{names}", f"not shipped; shipped are: {names}"))
    profile = load_profile(_shipped_text(code))
    if profile.code != code:
        raise ProfileError(f"{code}.yaml", Text(f"所载口径为 {profile.code}", f"holds the profile {profile.code}"))
    return profile


@cache
def shipped_kinds() -> Mapping[str, Kind]:
    """The kinds that come with the software, by code.

    Raises:
        ProfileError: they cannot be read.
    """
    return _read_shared(_KINDS, read_kind)


@cache
def shipped_methodologies() -> Mapping[str, Methodology]:
    """The methodologies that come with the software, by code.

    Raises:
        ProfileError: they cannot be read.
    """
    return _read_shared(_METHODOLOGIES, read_methodology)


def _read_shared(name: str, read: Callable[[Fields], Item]) -> Mapping[str, Item]:
    fields = read_yaml(_shipped_text(name))
    found = _read_coded(fields, name, read)
    fields.close()
    return MappingProxyType(found)


def _shipped_text(name: str) -> str:
    return resources.files("backend.rules").joinpath("profiles", f"{name}.yaml").read_text(encoding="utf-8")


def _read_coded(fields: Fields, name: str, read: Callable[[Fields], Item]) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for entry in fields.mappings(name, optional=True):
        place = entry.at("code")
        item = read(entry)
        if item.code in found:
            raise ProfileError(place, Text(f"{item.code} 出现两次", f"{item.code} is given twice"))
        found[item.code] = item
    return found
