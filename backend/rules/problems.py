"""What every validation of rules shares: problems with their places, and the checks of caps and conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.errors import Text
from backend.kernel.units import INT64_MAX
from backend.rules.errors import ProfileError, at
from backend.rules.expressions import ExpressionError, check
from backend.rules.model import Measure, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backend.rules.expressions import Environment
    from backend.rules.model import Cap, Kind

    Problems = Iterator[ProfileError]


def list_cap_problems(caps: tuple[Cap, ...], path: str, *, inside: str = "") -> Problems:
    """What is wrong with the caps of one rule or programme; each lies at ``path[i]``, or ``inside`` that."""
    seen: set[tuple[object, ...]] = set()
    for index, cap in enumerate(caps):
        place = at(f"{path}[{index}]", inside)
        counter = (cap.group, cap.period, cap.scope, cap.measure)
        if counter in seen:
            yield problem(
                place,
                f"{cap.group} {cap.period} 对 {cap.measure} 限制了两次",
                f"limits {cap.measure} of {cap.group} {cap.period} twice",
            )
        seen.add(counter)
        if not 1 <= cap.limit <= INT64_MAX:
            yield must_fit(at(place, "limit"))
        if not cap.basis.strip():
            yield problem(at(place, "basis"), "须说明由谁设定", "says who chose the limit")
        if cap.scope is Scope.EVERYBODY and cap.measure is not Measure.POINTS:
            yield problem(
                at(place, "measure"), "所有人共用的预算只限积分", "a budget that all share limits points only"
            )


def list_expression_problems(text: str, environment: Environment, path: str) -> Problems:
    """What is wrong with a condition, with its line and column."""
    try:
        check(text, environment)
    except ExpressionError as error:
        yield ProfileError(path, error.problem, error.line, error.column)


def list_name_problems(path: str, zh: str, en: str) -> Problems:
    """What is wrong with a name in both languages."""
    if not (zh.strip() and en.strip()):
        yield problem(at(path, "name_zh"), "须有中英文名称", "needs a name in both languages")


def list_unknown_kinds(codes: frozenset[str], kinds: Mapping[str, Kind], path: str) -> Problems:
    """The codes that stand for no kind."""
    for code in sorted(codes - kinds.keys()):
        yield problem(path, f"没有行为种类 {code}", f"there is no kind {code}")


def problem(path: str, zh: str, en: str) -> ProfileError:
    """One problem in both languages."""
    return ProfileError(path, Text(zh, en))


def must_fit(path: str) -> ProfileError:
    """The problem of an amount that is none."""
    return problem(path, "须不小于 1 且不超出 64 位", "must be at least 1 and fit in 64 bits")


def must_be_between(path: str, least: int, most: int) -> ProfileError:
    """The problem of a number out of its bounds."""
    return problem(path, f"须在 {least} 与 {most} 之间", f"must be from {least} to {most}")


def name_repeated(path: str) -> ProfileError:
    """The problem of a name that stands there already."""
    return problem(path, "名称重复", "the name is given twice")
