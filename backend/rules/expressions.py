"""Conditions that administrators write, in CEL: checked once, evaluated for each act.

Pure: an answer depends on the arguments alone. An expression can compare and compute, never loop, call out or use
floating point: the environment holds nothing else, so that its cost is bounded by its length. The compiler itself
refuses deep nesting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import yaml
from cel_expr_python import cel

from backend.kernel.errors import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LENGTH = 1_000

_INT = cel.Type.INT
_STRING = cel.Type.STRING
_SHARED = {
    "quantity": _INT,
    "hour": _INT,
    "minute": _INT,
    "weekday": _INT,
    "month": _INT,
    "day": _INT,
    "duration_s": _INT,
    "district": _STRING,
    "tier": _STRING,
    "source": _STRING,
    "attributes": cel.Type.Map(_STRING, _STRING),
}
_TODAY = {"today_count": _INT, "today_quantity": _INT, "today_mg": _INT}
_WHAT = {"kind": _STRING, "category": _STRING}


class Environment(Enum):
    """What an expression belongs to, which decides the variables it may use."""

    RULE = "RULE"
    # does not know the day's totals, but what sort of act it is
    CAMPAIGN = "CAMPAIGN"

    @property
    def variables(self) -> tuple[str, ...]:
        """The names an expression may use, each of which `evaluate` needs."""
        return tuple(_VARIABLES[self])


_VARIABLES = {Environment.RULE: _SHARED | _TODAY, Environment.CAMPAIGN: _SHARED | _WHAT}

# All that an expression can do: CEL's operators and functions for whole numbers, texts, lists and maps, by overload.
_FUNCTIONS = {
    "_&&_": ["logical_and"],
    "_||_": ["logical_or"],
    "!_": ["logical_not"],
    "_?_:_": ["conditional"],
    "_==_": ["equals"],
    "_!=_": ["not_equals"],
    "_<_": ["less_int64", "less_string"],
    "_<=_": ["less_equals_int64", "less_equals_string"],
    "_>_": ["greater_int64", "greater_string"],
    "_>=_": ["greater_equals_int64", "greater_equals_string"],
    "_+_": ["add_int64"],
    "_-_": ["subtract_int64"],
    "_*_": ["multiply_int64"],
    "_/_": ["divide_int64"],
    "_%_": ["modulo_int64"],
    "-_": ["negate_int64"],
    "@in": ["in_list", "in_map"],
    "_[_]": ["index_map"],
    "size": ["size_string", "string_size"],
    "startsWith": ["starts_with_string"],
    "endsWith": ["ends_with_string"],
    "contains": ["contains_string"],
    "int": ["string_to_int64"],
}
_LIBRARY = {
    "stdlib": {
        "include_macros": ["has"],
        "include_functions": [
            {"name": name, "overloads": [{"id": overload} for overload in overloads]}
            for name, overloads in _FUNCTIONS.items()
        ],
    }
}

_ERROR = re.compile(r"^(?:INVALID_ARGUMENT: )?ERROR: <input>:(\d+):(\d+): (.*)$", re.MULTILINE)
_UNKNOWN = re.compile(r"undeclared reference to '([^']*)'")
_MISMATCH = re.compile(r"found no matching overload for '([^']*)' applied to '(.*)'")
_NO_FIELDS = re.compile(r"expression of type '(.*)' cannot be the operand of a select")
_TOO_DEEP = re.compile(
    r"CANCELLED: Expression recursion limit|INVALID_ARGUMENT: ERROR: <input>:-1:-1: .*recursion depth"
)
_LOOPS = {"all", "exists", "exists_one", "map", "filter"}
# What may hide digits comes first: comments, texts, names. A raw text needs no pattern of its own: the compiler refuses
# one whose backslash stands before a quote.
_FLOAT = re.compile(
    r"""//[^\n]*
    | \"{3}(?:\\.|.)*?\"{3} | '{3}(?:\\.|.)*?'{3} | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*'
    | [A-Za-z_][A-Za-z_0-9]*
    | (?P<float> \d*\.\d+(?:[eE][+-]?\d+)? | \d+[eE][+-]?\d+)""",
    re.VERBOSE | re.DOTALL,
)

_EMPTY = Text("条件为空", "the condition is empty")
_TOO_LONG = Text(f"条件超过 {MAX_LENGTH:,} 个字符", f"the condition is longer than {MAX_LENGTH:,} characters")
_DEEP = Text("嵌套过深", "nested too deeply")
_SYNTAX = Text("此处语法有误", "syntax error here")
_NO_LOOPS = Text("条件中不能使用循环", "a condition cannot loop")
_NO_FLOATS = Text("只能使用整数，不能使用小数", "only whole numbers can be used, no decimals")


@dataclass(eq=False)
class ExpressionError(ValueError):
    """An expression cannot be used: what is wrong, and at which line and column (in characters, from 1)."""

    line: int
    column: int
    problem: Text

    def __str__(self) -> str:
        """Show place and problem on one line."""
        return f"line {self.line}, column {self.column}: {self.problem.en}"


class EvaluationError(ValueError):
    """A sound expression has no answer for this act: a division by zero, an attribute it lacks, an overflow."""


def check(text: str, environment: Environment) -> None:
    """Make sure that ``text`` is a condition: readable, of the right types, bounded, true or false.

    Raises:
        ExpressionError: it is not; the first problem found.
    """
    _compiled(text, environment)


def evaluate(text: str, environment: Environment, variables: Mapping[str, int | str | Mapping[str, str]]) -> bool:
    """Whether the condition holds for an act described by all of the environment's variables.

    Raises:
        ExpressionError: it is not a condition.
        EvaluationError: it has no answer for these variables.
    """
    expression = _compiled(text, environment)
    # CEL takes no other mapping than a dict.
    data = {name: value if isinstance(value, (int, str, dict)) else dict(value) for name, value in variables.items()}
    try:
        answer = expression.eval(data=data).value()
    except (RuntimeError, TypeError) as error:
        raise EvaluationError(str(error)) from error
    if not isinstance(answer, bool):
        # Not raised by CEL, but given as an answer: what went wrong, in words.
        raise EvaluationError(answer)
    return answer


@lru_cache(maxsize=1_024)
def uses_today(text: str) -> bool:
    """Whether a rule's condition needs the citizen's totals of the day.

    Raises:
        ExpressionError: it is not a condition.
    """
    check(text, Environment.RULE)
    try:
        # These totals are all that a rule's condition can say and a campaign's cannot.
        check(text, Environment.CAMPAIGN)
    except ExpressionError:
        return True
    return False


@lru_cache(maxsize=1_024)
def _compiled(text: str, environment: Environment) -> Any:
    """The expression, ready to evaluate and of boolean type."""
    if not text.strip():
        raise ExpressionError(1, 1, _EMPTY)
    if len(text) > MAX_LENGTH:
        raise ExpressionError(1, 1, _TOO_LONG)
    try:
        expression = _environment(environment).compile(text)
    except (RuntimeError, TypeError) as error:  # a TypeError is a text that UTF-8 cannot hold
        raise _explained(str(error)) from error
    if expression.return_type() != cel.Type.BOOL:
        name = expression.return_type().name().lower()
        raise ExpressionError(
            1, 1, Text(f"条件的结果应为真或假，而不是 {name}", f"a condition is true or false, not {name}")
        )
    _refuse_floats(text)
    return expression


@cache
def _environment(environment: Environment) -> Any:
    config = cel.NewEnvConfigFromYaml(yaml.safe_dump(_LIBRARY))
    return cel.NewEnv(config=config, variables=_VARIABLES[environment])


def _explained(message: str) -> ExpressionError:
    """What the compiler said, in both languages: a loop before all else, otherwise its first error."""
    if _TOO_DEEP.match(message):
        return ExpressionError(1, 1, _DEEP)
    errors = [
        ExpressionError(int(line), int(column), _problem(detail)) for line, column, detail in _ERROR.findall(message)
    ]
    loops = [error for error in errors if error.problem is _NO_LOOPS]
    return next(iter(loops + errors), ExpressionError(1, 1, _SYNTAX))


def _problem(detail: str) -> Text:
    if unknown := _UNKNOWN.search(detail):
        name = unknown[1]
        return _NO_LOOPS if name in _LOOPS else Text(f"未知的名称 {name}", f"unknown name {name}")
    if mismatch := _MISMATCH.search(detail):
        operator = mismatch[1].replace("_", "").removeprefix("@")
        return Text(f"{operator} 不适用于 {mismatch[2]}", f"{operator} does not apply to {mismatch[2]}")
    if owner := _NO_FIELDS.search(detail):
        return Text(f"{owner[1]} 没有字段", f"{owner[1]} has no fields")
    return _SYNTAX if detail.startswith("Syntax error") else Text(f"此处有误：{detail}", detail)


def _refuse_floats(text: str) -> None:
    """Find a decimal in a text that compiles: two of them can still be compared for equality."""
    for token in _FLOAT.finditer(text):
        if token["float"] is not None:
            before = text[: token.start()]
            raise ExpressionError(before.count("\n") + 1, len(before) - before.rfind("\n"), _NO_FLOATS)
