"""What can go wrong, in four kinds: a refusal, a fault of access, a transient fault, and everything else (a bug).

An error is a plain (not frozen, not formatted in ``__init__``) dataclass, so that it survives pickling through a task
queue with its fields intact. ``code`` never changes once published; the message exists in both languages.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple


class Language(StrEnum):
    """Languages of user-facing texts; Chinese first."""

    ZH_CN = "zh-CN"
    EN = "en"


class Text(NamedTuple):
    """A phrase in both languages, for an error's fields."""

    zh: str
    en: str

    def said(self, language: Language) -> str:
        """The phrase in that language."""
        return self.zh if language is Language.ZH_CN else self.en


@dataclass(eq=False)
class DomainError(Exception):
    """Base of every expected error: a stable code and a message template per language, filled from the fields."""

    code: ClassVar[str]
    zh: ClassVar[str]
    en: ClassVar[str]

    def message(self, language: Language = Language.EN) -> str:
        """The sentence shown to a person."""
        template = self.zh if language is Language.ZH_CN else self.en
        return template.format(**self.values(language))

    def values(self, language: Language) -> dict[str, Any]:
        """The fields by name, phrases in that language."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value.said(language) if isinstance(value, Text) else value for name, value in fields.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as class and fields, however the error was built."""
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __str__(self) -> str:
        """English message, for logs."""
        return f"{self.code}: {self.message()}"


@dataclass(eq=False)
class Refusal(DomainError):  # noqa: N818 - the word of the domain; each refusal ends in Error
    """The request is understood and refused; nothing changed. GraphQL shows it as a member of the result union."""


@dataclass(eq=False)
class AccessError(DomainError):
    """Who asks may not; nothing changed. GraphQL shows it as ``errors[].extensions.code``."""


@dataclass(eq=False)
class TransientError(DomainError):
    """A server could not answer in time; the same request may be sent again. Raised only next to a server."""


@dataclass(eq=False)
class BusyError(TransientError):
    """Write conflicts outlasted the retry budget; nothing changed."""

    code = "BUSY"
    zh = "系统繁忙，请稍后重试"
    en = "too many simultaneous changes; try again"


@dataclass(eq=False)
class UnavailableError(TransientError):
    """A server the operation needs does not answer."""

    code = "UNAVAILABLE"
    zh = "服务暂不可用，请稍后重试"
    en = "a required server does not answer; try again"


@dataclass(eq=False)
class IdempotencyConflictError(Refusal):
    """The idempotency key was used before with another payload."""

    key: str

    code = "IDEMPOTENCY_CONFLICT"
    zh = "幂等键 {key} 已用于内容不同的请求"
    en = "idempotency key {key} was already used with another payload"


@dataclass(eq=False)
class InvalidInputError(Refusal):
    """A field of the input has a value no operation accepts."""

    field: str
    problem: Text

    code = "INVALID_INPUT"
    zh = "字段 {field} 无效：{problem}"
    en = "field {field} is invalid: {problem}"
