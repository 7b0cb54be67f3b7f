"""The mobile app's documents, one operation a file; ``read_operation`` gives their text to our own clients."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def read_operation(name: str) -> str:
    """The document of that name, like ``Home``."""
    return (resources.files("schemas.operations") / f"{name}.graphql").read_text("utf-8")
