"""Every error of the repository: known to the wire, one code each, in both languages, and whole after a task queue."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import pkgutil
import string
from collections import Counter
from typing import TYPE_CHECKING, get_type_hints

import pytest

import backend
from backend.actions.feeds.model import FeedFormatError, FeedReason
from backend.actions.model import Reason
from backend.kernel.errors import AccessError, DomainError, Language, Refusal, TransientError
from backend.rules.conversion import Reason as ConversionReason
from backend.rules.model import Period
from schemas import refusals

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = (DomainError, Refusal, AccessError, TransientError)
# Errors that are none of the three kinds a client meets, and why.
OFF_THE_WIRE = {FeedFormatError: "told by the import command; no operation takes a file"}


def every_error() -> Iterator[type[DomainError]]:
    """Every concrete error class that any module of the core defines."""
    for module in pkgutil.walk_packages(backend.__path__, "backend."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    waiting: list[type[DomainError]] = [DomainError]
    while waiting:
        found = waiting.pop()
        waiting += found.__subclasses__()
        # Doubles of tests are no errors of the product.
        if found not in KINDS and found.__module__.startswith("backend."):
            yield found


ERRORS = sorted(every_error(), key=lambda cls: cls.__qualname__)
NAMES = [cls.__name__ for cls in ERRORS]


def sample(cls: type[DomainError]) -> DomainError:
    """One such error."""
    hints = get_type_hints(cls)
    return cls(*(7 if hints[field.name] is int else f"«{field.name}»" for field in dataclasses.fields(cls)))


def test_the_walk_finds_the_errors() -> None:
    assert {"InvalidInputError", "ForbiddenError", "UnknownKindError", "BusyError", "FeedFormatError"} <= set(NAMES)


@pytest.mark.parametrize("cls", ERRORS, ids=NAMES)
def test_an_error_is_a_refusal_the_wire_knows_or_of_another_kind_it_knows(cls: type[DomainError]) -> None:
    if issubclass(cls, Refusal):
        assert cls in refusals.TYPES, f"add {cls.__module__} to schemas.refusals.MODULES"
        shown = refusals.show(sample(cls), Language.EN)  # type: ignore[arg-type]
        assert (shown.code.value, shown.message) == (cls.code, sample(cls).message())
        for field in dataclasses.fields(cls):
            assert getattr(shown, field.name) == getattr(sample(cls), field.name)
    elif not issubclass(cls, AccessError | TransientError):
        assert cls in OFF_THE_WIRE


def test_every_refusal_is_handled_on_the_wire() -> None:
    assert {vars(type(handler))["exception_type"] for handler in refusals.HANDLERS} == {
        cls for cls in ERRORS if issubclass(cls, Refusal)
    }


def test_every_code_is_used_once_and_reads_as_a_code() -> None:
    codes = Counter(cls.code for cls in ERRORS)
    assert [code for code, count in codes.items() if count > 1] == []
    assert all(set(code) <= {*string.ascii_uppercase, "_"} for code in codes)
    assert {member.value for member in refusals.ErrorCode} == {cls.code for cls in ERRORS if issubclass(cls, Refusal)}


@pytest.mark.parametrize("cls", ERRORS, ids=NAMES)
def test_an_error_speaks_both_languages_and_uses_all_its_fields_or_none_that_is_missing(
    cls: type[DomainError],
) -> None:
    assert {"code", "zh", "en"} <= set(vars(cls)), "inherited texts say something else"
    error = sample(cls)
    fields = {field.name for field in dataclasses.fields(cls)}
    for language, template in ((Language.ZH_CN, cls.zh), (Language.EN, cls.en)):
        named = {name for _, name, _, _ in string.Formatter().parse(template) if name}
        assert named <= fields
        message = error.message(language)
        assert not {"{", "}"} & set(message)
        for name in named:
            assert str(getattr(error, name)) in message
        assert any("一" <= letter <= "鿿" for letter in template) is (language is Language.ZH_CN)
    assert str(error) == f"{cls.code}: {error.message(Language.EN)}"
    zh, en = ({name for _, name, _, _ in string.Formatter().parse(template) if name} for template in (cls.zh, cls.en))
    # What is told in one language only would be missing in the other.
    assert zh == en


@pytest.mark.parametrize("cls", ERRORS, ids=NAMES)
def test_an_error_survives_a_task_queue_with_its_fields(cls: type[DomainError]) -> None:
    error = sample(cls)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
        assert type(again) is cls
        assert vars(again) == vars(error)
        assert str(again) == str(error)
        assert again.args == error.args


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_told_in_both_languages(reason: Reason) -> None:
    for period in (None, *Period):
        zh, en = reason.sentence(Language.ZH_CN, period), reason.sentence(Language.EN, period)
        assert_chinese_and_english(zh, en)


@pytest.mark.parametrize("reason", FeedReason)
def test_a_feeds_reason_is_told_in_both_languages(reason: FeedReason) -> None:
    assert_chinese_and_english(reason.sentence(Language.ZH_CN), reason.sentence(Language.EN))


def assert_chinese_and_english(zh: str, en: str) -> None:
    """One sentence is in Chinese, the other in English, and no blank was left unfilled."""
    assert any("一" <= letter <= "鿿" for letter in zh)
    assert en.isascii()
    assert len(en) > 10
    assert not {"{", "}"} & set(zh + en)


def test_conversions_reasons_keep_their_codes_as_an_actions_reasons() -> None:
    assert {reason.value for reason in ConversionReason} < {reason.value for reason in Reason}
    sentences = [reason.sentence(Language.EN) for reason in Reason]
    assert len(set(sentences)) == len(sentences)


def test_what_a_cap_is_counted_over_is_named() -> None:
    said = {period: Reason.CAP_REACHED.sentence(Language.EN, period) for period in Period}
    assert said[Period.DAY] == "the daily limit is used up"
    assert len(set(said.values())) == len(Period)
