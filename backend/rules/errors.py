"""What can be wrong with a rule profile. Read by operators, in English; citizens never see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class ProfileError(ValueError):
    """A profile cannot be used: ``path`` says where (``rules[3].caps[0].limit``), ``problem`` says what is wrong."""

    path: str
    problem: str

    def __str__(self) -> str:
        """Show place and problem on one line."""
        return f"{self.path}: {self.problem}"


@dataclass(eq=False)
class PublishedOtherwiseError(ValueError):
    """What is published is immutable: a change needs a new version (or kind) of its own."""

    name: str

    def __str__(self) -> str:
        """Say which."""
        return f"{self.name} is published with other content; give the change a version of its own"
