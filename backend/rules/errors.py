"""What can be wrong with rules: told to operators in English and to administrators in their own language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.kernel.errors import Text


@dataclass(eq=False)
class ProfileError(ValueError):
    """Rules cannot be used: ``path`` says where (``rules[3].caps[0].limit``), ``problem`` says what is wrong.

    A problem of an expression also has its ``line`` and ``column`` there, counted from 1.
    """

    path: str
    problem: Text
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """Show place and problem on one line."""
        place = "" if self.line is None else f" (line {self.line}, column {self.column})"
        return f"{self.path}{place}: {self.problem.en}"


def at(path: str, name: str) -> str:
    """The path of a field below ``path``."""
    return ".".join(part for part in (path, name) if part)


@dataclass(eq=False)
class PublishedOtherwiseError(ValueError):
    """What is published is immutable: a change needs a new version (or kind) of its own."""

    name: str

    def __str__(self) -> str:
        """Say which."""
        return f"{self.name} is published with other content; give the change a version of its own"
