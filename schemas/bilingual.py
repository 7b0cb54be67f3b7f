"""Texts in both languages, as whoever writes them reads them again."""

from __future__ import annotations

from backend.kernel.errors import Text
from schemas.rule_inputs import BilingualInput
from schemas.view import view


@view(of=Text, name="Bilingual")
class BilingualType:
    """A text in both languages."""

    zh: str
    en: str


def to_text(given: BilingualInput) -> Text:
    """The text that an input gives."""
    return Text(given.zh, given.en)
