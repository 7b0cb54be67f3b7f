"""Strict reading of a plain mapping: every field asked for exists, has the type asked for, and none is left over.

The mapping comes from YAML, from the database or from an administrator's input. YAML's conveniences are refused where
they would hide a slip: doubled keys, aliases, merges, dates and, as no field ever asks for one, floats. Knows nothing
of rules.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import Text
from backend.kernel.units import INT64_MAX, Ratio
from backend.rules.errors import ProfileError, at

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

Choice = TypeVar("Choice", bound=Enum)

_RATIO = re.compile(r"(\d{1,18})/(\d{1,18})", re.ASCII)
LONGEST_TEXT = 600


class _StrictLoader(yaml.SafeLoader):
    """Plain values only: moments stay text, a doubled key or an alias is an error."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it bare
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str) -> Fields:
    """The mapping that the whole text holds.

    Raises:
        ProfileError: not one mapping of plain values.
    """
    try:
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, error.problem or "not YAML"
        raise ProfileError(
            f"line {mark.line + 1}" if mark else "text", Text(f"YAML 有误：{problem}", problem)
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProfileError("text", Text("不是 YAML", "not YAML")) from error
    return Fields("", value)


class Fields:
    """The fields of one mapping, each taken by name and type; ``close`` refuses those that nobody took."""

    def __init__(self, path: str, value: object) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            sort = type(value).__name__
            raise ProfileError(
                path or "text",
                Text(f"须为以文字为键的映射，而不是 {sort}", f"must be a mapping with text keys, not {sort}"),
            )
        self.path = path
        self._left: dict[str, object] = dict(value)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def at(self, name: str) -> str:
        """The path of that field."""
        return at(self.path, name)

    def problem(self, name: str, zh: str, en: str) -> ProfileError:
        """The error that this field has that problem."""
        return ProfileError(self.at(name), Text(zh, en))

    def close(self) -> None:
        """Refuse fields that were never asked for.

        Raises:
            ProfileError: one is left.
        """
        if self._left:
            raise self.problem(min(self._left), "未知字段", "unknown field")

    def _take(self, name: str) -> object:
        if name not in self._left:
            raise self.problem(name, "缺少此字段", "is missing")
        return self._left.pop(name)

    def _absent(self, name: str) -> bool:
        """Whether the field is absent or null; it then counts as taken."""
        return self._left.get(name) is None and self._left.pop(name, None) is None

    def text(
        self, name: str, pattern: str | None = None, *, longest: int = LONGEST_TEXT, default: str | None = None
    ) -> str:
        """One trimmed text that matches ``pattern`` as a whole; not empty, unless absent or empty is ``default``."""
        if default is not None and (name not in self or self._left[name] == ""):
            self._left.pop(name, None)
            return default
        return _text(self.at(name), self._take(name), pattern, longest)

    def optional_text(self, name: str, pattern: str | None = None, *, longest: int = LONGEST_TEXT) -> str | None:
        """As ``text``, or None where the field is absent or null."""
        return None if self._absent(name) else self.text(name, pattern, longest=longest)

    def both(self, name: str) -> Text:
        """A phrase ``{zh, en}``; either may be empty."""
        fields = self.mapping(name)
        phrase = Text(fields.text("zh", default=""), fields.text("en", default=""))
        fields.close()
        return phrase

    def integer(self, name: str, *, at_least: int = 1, default: int | None = None) -> int:
        """A whole number of at least ``at_least`` that fits in 64 bits; where absent, ``default`` if there is one."""
        if default is not None and name not in self:
            return default
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(self.at(name), "整数", "an integer", value)
        if not at_least <= value <= INT64_MAX:
            raise self.problem(
                name,
                f"须不小于 {at_least} 且不超出 64 位，而不是 {value}",
                f"must be at least {at_least} and fit in 64 bits, not {value}",
            )
        return int(value)

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """True or false; where absent, ``default`` if there is one."""
        if default is not None and name not in self:
            return default
        value = self._take(name)
        if not isinstance(value, bool):
            raise _wrong(self.at(name), "是或否", "true or false", value)
        return value

    def ratio(self, name: str, *, default: Ratio | None = None) -> Ratio:
        """An exact ratio written ``467/10``; where absent, ``default`` if there is one."""
        if default is not None and name not in self:
            return default
        value = self._take(name)
        match = _RATIO.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.problem(
                name,
                f"须为整数之比，例如 467/10，而不是 {value!r}",
                f"must be a ratio of whole numbers such as 467/10, not {value!r}",
            )
        if int(match[2]) == 0:
            raise self.problem(name, "分母为零", "has a zero denominator")
        return Ratio(int(match[1]), int(match[2]))

    def choice(self, name: str, choices: type[Choice], *, default: Choice | None = None) -> Choice:
        """A member of ``choices``, written as its value; where absent, ``default`` if there is one."""
        if default is not None and name not in self:
            return default
        value = self._take(name)
        for member in choices:
            if member.value == value:
                return member
        known = ", ".join(str(member.value) for member in choices)
        raise self.problem(name, f"须为 {known} 之一，而不是 {value!r}", f"must be one of {known}, not {value!r}")

    def moment(self, name: str) -> datetime | None:
        """A moment, or its text in RFC 3339, with its offset; in UTC. None where absent or null."""
        if self._absent(name):
            return None
        value = self._take(name)
        try:
            moment = (
                value
                if isinstance(value, datetime)
                else datetime.fromisoformat(value if isinstance(value, str) else "")
            )
            return to_milliseconds(moment)
        except ValueError as error:
            raise self.problem(
                name, f"须为带时区的时刻，而不是 {value!r}", f"must be a moment with offset, not {value!r}"
            ) from error

    def needed_moment(self, name: str) -> datetime:
        """As ``moment``, and there."""
        moment = self.moment(name)
        if moment is None:
            raise self.problem(name, "缺少此字段", "is missing")
        return moment

    def items(self, name: str, *, optional: bool = False) -> list[tuple[str, object]]:
        """The entries of a list, each with its path."""
        if optional and name not in self:
            return []
        value = self._take(name)
        if not isinstance(value, list):
            raise _wrong(self.at(name), "列表", "a list", value)
        return [(f"{self.at(name)}[{index}]", entry) for index, entry in enumerate(value)]

    def mappings(self, name: str, *, optional: bool = False) -> list[Fields]:
        """The entries of a list of mappings."""
        return [Fields(path, entry) for path, entry in self.items(name, optional=optional)]

    def names(self, name: str, pattern: str, *, optional: bool = False) -> tuple[str, ...]:
        """The entries of a list of texts, each matching ``pattern`` as a whole."""
        return tuple(_text(path, entry, pattern, LONGEST_TEXT) for path, entry in self.items(name, optional=optional))

    def choices(self, name: str, choices: type[Choice], *, optional: bool = False) -> tuple[Choice, ...]:
        """The entries of a list of members of ``choices``."""
        entries = self.items(name, optional=optional)
        return tuple(Fields(path, {"": entry}).choice("", choices) for path, entry in entries)

    def lists(self, name: str, pattern: str) -> tuple[tuple[str, ...], ...]:
        """The entries of a list of non-empty lists of such texts; none where absent."""
        return tuple(Fields(path, {"": entry}).names("", pattern) for path, entry in self.items(name, optional=True))

    def mapping(self, name: str) -> Fields:
        """A mapping inside this one."""
        return Fields(self.at(name), self._take(name))

    def optional_mapping(self, name: str) -> Fields | None:
        """As ``mapping``, or None where the field is absent or null."""
        return None if self._absent(name) else self.mapping(name)

    def holds_text(self, name: str) -> bool:
        """Whether the field is a text rather than something inside."""
        return isinstance(self._left.get(name), str)


def fields_of(value: Fields | Mapping[str, object]) -> Fields:
    """The fields of a mapping whose paths begin with their own names, or those already taken apart."""
    return value if isinstance(value, Fields) else Fields("", value)


def _wrong(path: str, zh: str, en: str, value: object) -> ProfileError:
    sort = type(value).__name__
    return ProfileError(path, Text(f"须为{zh}，而不是 {sort}", f"must be {en}, not {sort}"))


def _text(path: str, value: object, pattern: str | None, longest: int) -> str:
    if not isinstance(value, str):
        raise _wrong(path, "文字", "text", value)
    value = value.strip()
    if not 0 < len(value) <= longest:
        raise ProfileError(path, Text(f"须有 1 至 {longest} 个字符", f"must have 1 to {longest} characters"))
    if pattern is not None and not re.fullmatch(pattern, value, re.ASCII):
        raise ProfileError(path, Text(f"{value!r} 不符合格式 {pattern}", f"{value!r} does not look like {pattern}"))
    return value
