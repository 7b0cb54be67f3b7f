"""Strict reading of a YAML mapping: every field asked for exists, has the type asked for, and none is left over.

YAML's conveniences are refused where they would hide a slip: doubled keys, aliases, merges, dates and, as no field ever
asks for one, floats. Knows nothing of rules.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from backend.kernel.clock import to_milliseconds
from backend.kernel.units import INT64_MAX, Ratio
from backend.rules.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Hashable

Choice = TypeVar("Choice", bound=Enum)

_RATIO = re.compile(r"(\d{1,18})/(\d{1,18})", re.ASCII)
_LONGEST_TEXT = 600


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
        mark = error.problem_mark
        raise ProfileError(f"line {mark.line + 1}" if mark else "text", error.problem or "not YAML") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProfileError("text", "not YAML") from error
    return Fields("profile", value)


class Fields:
    """The fields of one mapping, each taken by name and type; ``close`` refuses those that nobody took."""

    def __init__(self, path: str, value: object) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ProfileError(path, f"must be a mapping with text keys, not {type(value).__name__}")
        self.path = path
        self._left: dict[str, object] = dict(value)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def problem(self, name: str, problem: str) -> ProfileError:
        """The error that this field has that problem."""
        return ProfileError(f"{self.path}.{name}", problem)

    def close(self) -> None:
        """Refuse fields that were never asked for.

        Raises:
            ProfileError: one is left.
        """
        if self._left:
            raise self.problem(min(self._left), "unknown field")

    def _take(self, name: str) -> object:
        if name not in self._left:
            raise self.problem(name, "is missing")
        return self._left.pop(name)

    def text(self, name: str, pattern: str | None = None) -> str:
        """One trimmed, non-empty text that matches ``pattern`` as a whole."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self.problem(name, f"must be text, not {type(value).__name__}")
        value = value.strip()
        if not 0 < len(value) <= _LONGEST_TEXT:
            raise self.problem(name, f"must have 1 to {_LONGEST_TEXT} characters")
        if pattern is not None and not re.fullmatch(pattern, value, re.ASCII):
            raise self.problem(name, f"{value!r} does not look like {pattern}")
        return value

    def optional_text(self, name: str) -> str | None:
        """As ``text``, or None where the field is absent."""
        return self.text(name) if name in self else None

    def integer(self, name: str, *, at_least: int = 1) -> int:
        """A whole number of at least ``at_least`` that fits in 64 bits."""
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.problem(name, f"must be an integer, not {type(value).__name__}")
        if not at_least <= value <= INT64_MAX:
            raise self.problem(name, f"must be at least {at_least} and fit in 64 bits, not {value}")
        return value

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """True or false; where absent, ``default`` if there is one."""
        if default is not None and name not in self:
            return default
        value = self._take(name)
        if not isinstance(value, bool):
            raise self.problem(name, f"must be true or false, not {type(value).__name__}")
        return value

    def ratio(self, name: str, *, default: Ratio | None = None) -> Ratio:
        """An exact ratio written ``467/10``; where absent, ``default`` if there is one."""
        if default is not None and name not in self:
            return default
        value = self._take(name)
        match = _RATIO.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.problem(name, f"must be a ratio of whole numbers such as 467/10, not {value!r}")
        if int(match[2]) == 0:
            raise self.problem(name, "has a zero denominator")
        return Ratio(int(match[1]), int(match[2]))

    def choice(self, name: str, choices: type[Choice]) -> Choice:
        """A member of ``choices``, written as its value."""
        value = self._take(name)
        for member in choices:
            if member.value == value:
                return member
        raise self.problem(name, f"must be one of {', '.join(str(m.value) for m in choices)}, not {value!r}")

    def moment(self, name: str) -> datetime | None:
        """A moment in RFC 3339 with its offset, in UTC; None where absent or null."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return None
        value = self._take(name)
        try:
            return to_milliseconds(datetime.fromisoformat(value if isinstance(value, str) else ""))
        except ValueError as error:
            raise self.problem(name, f"must be a moment with offset, not {value!r}") from error

    def items(self, name: str, *, optional: bool = False) -> list[tuple[str, object]]:
        """The entries of a list, each with its path."""
        if optional and name not in self:
            return []
        value = self._take(name)
        if not isinstance(value, list):
            raise self.problem(name, f"must be a list, not {type(value).__name__}")
        return [(f"{self.path}.{name}[{index}]", entry) for index, entry in enumerate(value)]

    def mappings(self, name: str) -> list[Fields]:
        """The entries of a list of mappings."""
        return [Fields(path, entry) for path, entry in self.items(name)]
