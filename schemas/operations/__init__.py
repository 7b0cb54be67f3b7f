"""The mobile app's documents, one operation a file; ``read_operation`` gives their text to clients of this repository."""

from __future__ import annotations

from importlib import resources


def read_operation(name: str) -> str:
    """The document of that name, like ``Home``."""
    return (resources.files("schemas.operations") / f"{name}.graphql").read_text("utf-8")
