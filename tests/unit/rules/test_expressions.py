"""Conditions in CEL: what they may say, what is told about a wrong one, and that nothing else ever comes out."""

from __future__ import annotations

import contextlib
import pickle
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backend.kernel.errors import Text
from backend.rules.expressions import (
    MAX_LENGTH,
    Environment,
    EvaluationError,
    ExpressionError,
    check,
    evaluate,
    uses_today,
)

RULE = Environment.RULE
CAMPAIGN = Environment.CAMPAIGN
ACT = {
    "quantity": 5_000,
    "hour": 8,
    "minute": 30,
    "weekday": 6,
    "month": 11,
    "day": 21,
    "duration_s": 1_200,
    "district": "梁溪区",
    "tier": "OPERATOR",
    "source": "afc",
    "attributes": {"entry_station": "三阳广场", "occupants": "3"},
}
IN_RULE = ACT | {"today_count": 2, "today_quantity": 9_000, "today_mg": 420_000}
IN_CAMPAIGN = ACT | {"kind": "metro.ride", "category": "transit"}
DATA = {RULE: IN_RULE, CAMPAIGN: IN_CAMPAIGN}


def problem_of(text: str, environment: Environment = RULE) -> tuple[int, int, str]:
    with pytest.raises(ExpressionError) as caught:
        check(text, environment)
    assert caught.value.problem.zh
    return caught.value.line, caught.value.column, caught.value.problem.en


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("true", True),
        ("quantity >= 5000 && quantity < 6000", True),
        ("hour * 60 + minute - 7 * 60 == 90", True),
        ("minute / 7 == 4 && minute % 7 == 2 && -minute == -30", True),
        ("weekday in [6, 7]", True),
        ("!(month != 11 || day <= 20)", True),
        ("duration_s > 1200", False),
        ("quantity > 1000 ? hour == 8 : false", True),
        ("tier == 'OPERATOR' && tier >= 'DEVICE' && tier > 'DEVICE' && tier < 'Z' && tier <= 'OPERATOR'", True),
        ("district.startsWith('梁溪') && district.endsWith('区') && source.contains('f')", True),
        ("size(district) == 3 && source.size() == 3", True),
        ("has(attributes.entry_station) && attributes.entry_station == '三阳广场'", True),
        ("'exit_station' in attributes || has(attributes.exit_station)", False),
        ("int(attributes['occupants']) >= 3", True),
        ("// 1.5 is a comment\nsource == 'afc'", True),
        ("source == '1.5' || source == r'1.5' || source == \"\"\"1.5 '\"\"\" || source == '\\'1.5'", False),
        (r"source == r'\d1.5' || source == r'\\ 1.5'", False),
        ("0x1e5 == 485", True),
    ],
)
@pytest.mark.parametrize("environment", Environment)
def test_a_condition_compares_and_computes(text: str, holds: bool, environment: Environment) -> None:  # noqa: FBT001
    check(text, environment)
    assert evaluate(text, environment, DATA[environment]) is holds


def test_every_variable_can_be_used_in_its_environment_and_no_other() -> None:
    assert set(RULE.variables) == set(IN_RULE)
    assert set(CAMPAIGN.variables) == set(IN_CAMPAIGN)
    assert evaluate("today_count == 2 && today_quantity == 9000 && today_mg == 420000", RULE, IN_RULE)
    assert evaluate("kind == 'metro.ride' && category == 'transit'", CAMPAIGN, IN_CAMPAIGN)
    assert problem_of("today_count == 0", CAMPAIGN) == (1, 1, "unknown name today_count")
    assert problem_of("kind == 'bus.ride'", RULE) == (1, 1, "unknown name kind")


@pytest.mark.parametrize(
    ("text", "line", "column", "zh", "en"),
    [
        ("", 1, 1, "条件为空", "the condition is empty"),
        (" \n", 1, 1, "条件为空", "the condition is empty"),
        ("distance > 3", 1, 1, "未知的名称 distance", "unknown name distance"),
        ("district == '梁溪区😀' && distence > 3", 1, 23, "未知的名称 distence", "unknown name distence"),
        ("hour > 6 &&\n district == '梁溪区' && houer < 9", 2, 23, "未知的名称 houer", "unknown name houer"),
        ("hour > ", 1, 8, "此处语法有误", "syntax error here"),
        ("hour > 9223372036854775808", 1, 8, "此处有误：invalid int literal", "invalid int literal"),
        ("district == “梁溪区”", 1, 13, "此处语法有误", "syntax error here"),
        ("source == '\ud800'", 1, 1, "此处语法有误", "syntax error here"),
        ("hour > '6'", 1, 6, "> 不适用于 (int, string)", "> does not apply to (int, string)"),
        ("source + tier == ''", 1, 8, "+ 不适用于 (string, string)", "+ does not apply to (string, string)"),
        ("hour in ['6']", 1, 6, "in 不适用于 (int, list(string))", "in does not apply to (int, list(string))"),
        ("hour.minute == 3", 1, 5, "int 没有字段", "int has no fields"),
        ("quantity", 1, 1, "条件的结果应为真或假，而不是 int", "a condition is true or false, not int"),
        ("{'a': true, 'b': 1}.a", 1, 1, "条件的结果应为真或假，而不是 dyn", "a condition is true or false, not dyn"),
        ("[1, 2].exists(x, x == hour)", 1, 14, "条件中不能使用循环", "a condition cannot loop"),
        ("[1, 2].all(x, true)", 1, 11, "条件中不能使用循环", "a condition cannot loop"),
        ("[1].exists_one(x, true)", 1, 15, "条件中不能使用循环", "a condition cannot loop"),
        ("size([1].map(x, x)) == 1", 1, 13, "条件中不能使用循环", "a condition cannot loop"),
        ("[1].filter(x, true) == [1]", 1, 11, "条件中不能使用循环", "a condition cannot loop"),
        (
            r"source == r'\\' || 1.5 == 1.5",
            1,
            20,
            "只能使用整数，不能使用小数",
            "only whole numbers can be used, no decimals",
        ),
        ("source.matches('a+')", 1, 15, "未知的名称 matches", "unknown name matches"),
        ("dyn(hour) == 1", 1, 4, "未知的名称 dyn", "unknown name dyn"),
        ("timestamp('2026-11-21T00:00:00Z') == 1", 1, 10, "未知的名称 timestamp", "unknown name timestamp"),
        ("double(hour) == 1.0", 1, 7, "未知的名称 double", "unknown name double"),
        ("hour < 6.5", 1, 6, "< 不适用于 (int, double)", "< does not apply to (int, double)"),
        (
            "hour in [1, 6.5]",
            1,
            13,
            "只能使用整数，不能使用小数",
            "only whole numbers can be used, no decimals",
        ),
        (
            "source != '区'\n || .5e-3 == 1E5",
            2,
            5,
            "只能使用整数，不能使用小数",
            "only whole numbers can be used, no decimals",
        ),
    ],
)
def test_a_wrong_condition_is_explained_at_its_place(text: str, line: int, column: int, zh: str, en: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check(text, RULE)
    assert (caught.value.line, caught.value.column, caught.value.problem) == (line, column, Text(zh, en))
    assert str(caught.value) == f"line {line}, column {column}: {en}"
    assert pickle.loads(pickle.dumps(caught.value)).problem == Text(zh, en)  # noqa: S301 - our own pickle
    with pytest.raises(ExpressionError):
        evaluate(text, RULE, IN_RULE)


@pytest.mark.parametrize(
    "quoted",
    [
        "ERROR: <input>:9:9: undeclared reference to 'map'",
        "CANCELLED: Expression recursion limit",
        "INVALID_ARGUMENT: ERROR: <input>:-1:-1: Exceeded max recursion depth",
    ],
)
def test_what_a_text_quotes_is_not_taken_for_the_compilers_own_words(quoted: str) -> None:
    assert problem_of(f'"{quoted}" == 1') == (1, len(quoted) + 4, "== does not apply to (string, int)")


def test_the_length_is_bounded() -> None:
    longest = "hour == 1".ljust(MAX_LENGTH)
    check(longest, RULE)
    assert problem_of(longest + " ") == (1, 1, "the condition is longer than 1,000 characters")
    check("source == '" + "区" * (MAX_LENGTH - 12) + "'", RULE)


@pytest.mark.parametrize("nest", ["({})", "!({})", "[{}]", "true ? true : {}", "hour + {}"])
def test_deep_nesting_is_refused(nest: str) -> None:
    before, after = nest.split("{}")
    deep = 60
    assert problem_of(before * deep + "true" + after * deep) == (1, 1, "nested too deeply")
    too_long = (1, 1, "the condition is longer than 1,000 characters")
    assert problem_of(before * 10_000 + "true" + after * 10_000) == too_long


def test_repeated_signs_are_no_depth() -> None:
    assert evaluate("!" * 990 + "true", RULE, IN_RULE)
    assert evaluate("true" + " && true" * 120, RULE, IN_RULE)
    assert problem_of("!" * 10_000 + "true") == (1, 1, "the condition is longer than 1,000 characters")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("quantity / (hour - 8) > 1", "INVALID_ARGUMENT: divide by zero"),
        ("quantity % (hour - 8) > 1", "INVALID_ARGUMENT: modulus by zero"),
        ("attributes.exit_station == '三阳广场'", 'NOT_FOUND: Key not found in map : "exit_station"'),
        ("quantity + 9223372036854775807 > 0", "OUT_OF_RANGE: integer overflow"),
        ("quantity * 9223372036854775807 > 0", "OUT_OF_RANGE: integer overflow"),
        ("int(attributes.entry_station) > 0", "INVALID_ARGUMENT: cannot convert string to int"),
        ("[true, 'a'] == [hour / 0 == 1, 'a']", "INVALID_ARGUMENT: divide by zero"),
    ],
)
def test_a_condition_without_an_answer_says_why(text: str, reason: str) -> None:
    check(text, RULE)
    with pytest.raises(EvaluationError) as caught:
        evaluate(text, RULE, IN_RULE)
    assert str(caught.value) == reason


def test_what_decides_already_needs_no_answer_from_the_rest() -> None:
    assert evaluate("attributes.exit_station == 'x' || hour == 8", RULE, IN_RULE)
    assert not evaluate("quantity / 0 == 1 && hour == 9", RULE, IN_RULE)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, 'UNKNOWN: No value with name "quantity" found in Activation'),
        ({"quantity": 2**63}, "OUT_OF_RANGE: int too big to convert"),
        ({"quantity": "5"}, "INVALID_ARGUMENT: Unexpected value type for 'quantity': str. (Expected INT)"),
    ],
)
def test_a_missing_or_wrong_variable_is_no_answer(variables: dict[str, int | str], reason: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate("quantity > 1", RULE, variables)
    assert str(caught.value) == reason


def test_a_text_that_utf_8_cannot_hold_is_no_answer() -> None:
    with pytest.raises(EvaluationError):
        evaluate("attributes.a == 'x'", RULE, {"attributes": {"a": "\ud800"}})


def test_any_mapping_serves_as_attributes() -> None:
    assert evaluate("attributes.a == 'x'", RULE, MappingProxyType({"attributes": MappingProxyType({"a": "x"})}))


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("today_count < 2", True),
        ("hour == 8 && (quantity > 3 || today_mg < 100000)", True),
        ("quantity + today_quantity < 10000", True),
        ("source == 'today_count'", False),
        ("attributes.today_count == '1' || 'today_mg' in attributes", False),
        ("hour == 8 // today_count", False),
    ],
)
def test_a_condition_tells_whether_it_needs_the_days_totals(text: str, used: bool) -> None:  # noqa: FBT001
    assert uses_today(text) is used


def test_only_a_rules_condition_can_need_the_days_totals() -> None:
    for text in ("kind == 'bus.ride'", "today_count <", "today_count"):
        with pytest.raises(ExpressionError):
            uses_today(text)


SIGNS = [*"<+-*/%!?:()[]{}.,'\\ \n\x00\u2028😀", '"', "==", "&&", "||", "//", "r'", '"""']
NAMES = ["in", "has", "int", "size", "map", "dyn", "type", "true", "null", "google.protobuf.Int64Value"]
LITERALS = ["1", "0", "9223372036854775807", "1.5", "1u", "'区'", "b'a'"]
WORDS = st.sampled_from([*IN_RULE, *SIGNS, *NAMES, *LITERALS])


@given(st.text() | st.lists(WORDS, max_size=30).map(" ".join) | st.lists(WORDS, max_size=30).map("".join))
@example("\x00")
@example("'\ud800'")
@example("\r")
@example("[" * 900)
@example("{1.5: 1} == hour")
@example("hour / 0 == 1")
def test_nothing_but_its_own_errors_ever_comes_out(text: str) -> None:
    for environment in Environment:
        try:
            check(text, environment)
        except ExpressionError as error:
            problem = error
        else:
            with contextlib.suppress(EvaluationError):
                assert isinstance(evaluate(text, environment, DATA[environment]), bool)
            continue
        lines = text.split("\n")
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.problem.zh
        assert problem.problem.en
