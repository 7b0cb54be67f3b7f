"""House rules that no linter knows, on every file of the repository; each is tried on lines to pass and to refuse.

Lines that break a rule are written here with ``¦`` inside, which is taken out before they are tried: this file keeps
the rules too.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
TEXTS = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".graphql",
    ".lock",
    ".txt",
    ".html",
    ".css",
    ".js",
    ".sh",
    "",
}
BUILT = {"node_modules", "results", "dist", "build"}
SHOWN_DOT_FOLDERS = {".ci", ".github"}
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 70
CORE = re.compile(r"backend/(kernel|ledger|rules|outbox|identity|actions(?!/feeds))/.*\.py")
Problem = tuple[int, str]


@dataclass(frozen=True)
class House:
    """One rule: where it holds, what breaks it, and lines to try it on."""

    name: str
    holds_for: Callable[[str], bool]
    find: Callable[[str, str], Iterator[Problem]]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    # The file that the lines are said to stand in.
    example_path: str = "backend/ledger/example.py"


def is_python(path: str) -> bool:
    """Whether this is a Python file."""
    return path.endswith(".py")


def in_backend(path: str) -> bool:
    """Whether this is a Python file of the core."""
    return is_python(path) and path.startswith("backend/")


def find_floats(path: str, text: str) -> Iterator[Problem]:
    """Float literals, the type's name, and true division; but pauses and time-outs in ``…_S`` constants, and paths."""
    tree = ast.parse(text, path)
    seconds = {
        id(inner)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id.endswith("_S") for t in node.targets))
        or (isinstance(node, ast.keyword) and (node.arg or "").endswith("_s"))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in seconds:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node.lineno, f"the float {node.value}"
        elif isinstance(node, ast.Name) and node.id == "float":
            yield node.lineno, "float"
        elif _divides(node):
            yield node.lineno, "true division"


def _divides(node: ast.AST) -> TypeGuard[ast.BinOp | ast.AugAssign]:
    """True division. A text is never divided: with one on the right, the slash joins a path."""
    if isinstance(node, ast.BinOp):
        is_text = isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
        return isinstance(node.op, ast.Div) and not is_text and not isinstance(node.right, ast.JoinedStr)
    return isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div)


def find_long_files(_path: str, text: str) -> Iterator[Problem]:
    """Files that outgrew reading."""
    lines = text.count("\n")
    if lines > MAX_FILE_LINES:
        yield lines, f"{lines} lines, more than {MAX_FILE_LINES}: make it a package named by operation"


def find_long_functions(path: str, text: str) -> Iterator[Problem]:
    """Functions that outgrew reading."""
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines, more than {MAX_FUNCTION_LINES}"


def find_vague_names(path: str, _text: str) -> Iterator[Problem]:
    """Files and folders whose name says nothing of what is in them."""
    for part in Path(path).with_suffix("").parts:
        if re.fullmatch(r"_?(utils?|helpers?|commons?|miscs?|misc|managers?|bases?)", part):
            yield 1, f"the name {part} says nothing"


def find_missing_docstring(path: str, text: str) -> Iterator[Problem]:
    """Modules that do not say what they are for."""
    if not ast.get_docstring(ast.parse(text, path)):
        yield 1, "no module docstring"


def find_sessions(path: str, text: str) -> Iterator[Problem]:
    """Optional database sessions: forgetting one writes outside the transaction."""
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.keyword) and node.arg == "session":
            yield node.lineno, "a session passed by hand"
        elif isinstance(node, ast.arguments):
            plain = [*node.posonlyargs, *node.args]
            blank: list[ast.expr | None] = [None] * (len(plain) - len(node.defaults))
            given = zip([*blank, *node.defaults], plain, strict=True)
            for default, argument in (*given, *zip(node.kw_defaults, node.kwonlyargs, strict=True)):
                if argument.arg == "session" and default is not None:
                    yield argument.lineno, "an optional session"


def find_pattern(pattern: str, problem: str) -> Callable[[str, str], Iterator[Problem]]:
    """A finder of every line in which the pattern stands."""
    compiled = re.compile(pattern)

    def find(_path: str, text: str) -> Iterator[Problem]:
        for number, line in enumerate(text.splitlines(), 1):
            found = compiled.search(line)
            if found:
                yield number, f"{problem}: {found.group().strip()}"

    return find


RULES = (
    House(
        "no floats in the core",
        lambda path: CORE.fullmatch(path) is not None,
        find_floats,
        good=(
            "PAUSE_S = 0.5",
            "await wait(timeout_s=2.5)",
            "points = grams // 1000",
            'path = folder / "keys"',
            'path = folder / "a" / f"{code}.yaml"',
            '"""33.88 mg/m, never a float"""',
        ),
        bad=(
            "SHARE = 0.5",
            "rate = 1e3",
            "grams = float(text)",
            "def f(grams: float) -> None: ...",
            "half = grams / 2",
            "grams /= 2",
            "convert(factor=33.88)",
        ),
    ),
    House(
        "files stay readable",
        is_python,
        find_long_files,
        good=("x = 1\n" * MAX_FILE_LINES,),
        bad=("x = 1\n" * (MAX_FILE_LINES + 1),),
    ),
    House(
        "functions stay readable",
        is_python,
        find_long_functions,
        good=("def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1),),
        bad=(
            "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES,
            "class A:\n    async def f(self):\n" + "        x = 1\n" * MAX_FUNCTION_LINES,
        ),
    ),
    House(
        "modules say what they are for",
        is_python,
        find_missing_docstring,
        good=('"""What this is for."""\nx = 1',),
        bad=("x = 1", '# A comment.\nx = 1\n"""Too late."""', '""" """', ""),
    ),
    House(
        "nothing is left for later",
        lambda _: True,
        find_pattern(r"\b(TO[D]O|FIX[M]E|X[X]X|NotImplemented[E]rror)\b", "left for later"),
        good=("todo = 1", "raise TypeError", "# XXXL", "MAXXX = 1"),
        bad=("# TO¦DO later", "x = 1  # FIX¦ME", "# X¦XX", "raise NotImplemented¦Error"),
    ),
    House(
        "the core leaves tasks to the outbox",
        # The one door to the broker, through which the outbox's relay and the nudges go.
        lambda path: in_backend(path) and path != "backend/valkey/task_queue.py",
        find_pattern(r"\.(delay|apply_async|send_task)\(", "a task sent from the core"),
        good=("queue.send_many(task, groups)", "delay(3)", "self.delay = 3"),
        bad=("settle.delay¦(1)", "settle.apply_async¦((1,))", "app.send_task¦('settle')"),
    ),
    House(
        "sessions belong to transactions",
        lambda path: in_backend(path) and not path.startswith("backend/mongo/"),
        find_sessions,
        good=("Popen(x, start_new_session=True)", "await tx.find(name, query)", "def ride(session: Fit, n=1): ..."),
        bad=("find(query, session=session)", "def f(query, session=None): ...", "def f(*, session: int = 1): ..."),
    ),
    House(
        "no file knows the machine it was written on",
        lambda _: True,
        find_pattern(r"(?<![\w.])/(work|home|Users|root|mnt)/\w|[A-Z]:\\Users\\", "a path of one machine"),
        good=("/usr/bin/mongod", "../shared/data", "https://tanhui.test/home/page", "net/work/x", "./work/x"),
        bad=(
            "/¦work/main",
            "cd /¦home/alice/tanhui",
            '"/¦Users/alice"',
            "(/¦root/x)",
            "=/¦mnt/data",
            "C:\\¦Users\\alice",
        ),
    ),
)
NAMES = House(
    "names say what is inside",
    lambda _: True,
    find_vague_names,
    good=("backend/ledger/store.py", "tests/conftest.py", "k8s/base-image/kustomization.yaml", "backend/database.py"),
    bad=(
        "backend/utils.py",
        "backend/ledger/helpers.py",
        "schemas/common/x.py",
        "misc.py",
        "workers/manager.py",
        "backend/base.py",
        "tests/api/_helper.py",
    ),
)
# The name of kustomize's own folder, which its users look for.
FAMILIAR_FOLDERS = ("k8s/base/",)


@cache
def repository() -> dict[str, str]:
    """Every text file of the repository by its path."""
    found = {}
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part not in SHOWN_DOT_FOLDERS for part in parts[:-1])
        if hidden or BUILT & set(parts[:-1]) or "__pycache__" in parts or not path.is_file():
            continue
        if path.suffix in TEXTS and not (path.name == ".git" or path.name.endswith(".rejects.csv")):
            found["/".join(parts)] = path.read_text("utf-8")
    return found


def test_the_repository_is_found() -> None:
    files = repository()
    assert {"pyproject.toml", "backend/app.py", "schemas/schema.graphql", "tests/contract/test_tidy.py"} <= set(files)
    assert not any(".venv" in path or "__pycache__" in path for path in files)


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_the_house_rule_is_kept(rule: House) -> None:
    problems = [
        f"{path}:{line}: {problem}"
        for path, text in repository().items()
        if rule.holds_for(path)
        for line, problem in rule.find(path, text)
    ]
    assert problems == []


def test_names_say_what_is_inside() -> None:
    paths = [path for path in repository() if not path.startswith(FAMILIAR_FOLDERS)]
    assert [problem for path in paths for problem in NAMES.find(path, "")] == []


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_the_rule_itself_passes_the_good_and_refuses_the_bad(rule: House) -> None:
    assert rule.holds_for(rule.example_path)
    for text in rule.good:
        assert (text, list(rule.find(rule.example_path, text))) == (text, [])
    for text in rule.bad:
        assert (text, len(list(rule.find(rule.example_path, text.replace("¦", ""))))) != (text, 0)


def test_the_rule_of_names_passes_the_good_and_refuses_the_bad() -> None:
    for path in NAMES.good:
        assert (path, list(NAMES.find(path, ""))) == (path, [])
    for path in NAMES.bad:
        assert (path, list(NAMES.find(path, ""))) != (path, [])


@pytest.mark.parametrize(
    ("path", "held"),
    [
        ("backend/kernel/units.py", True),
        ("backend/actions/settling.py", True),
        ("backend/actions/feeds/geometry.py", False),
        ("backend/rules/conversion.py", True),
        ("backend/mongo/client.py", False),
        ("schemas/scalars.py", False),
    ],
)
def test_floats_are_refused_in_the_core_and_allowed_in_geometry(path: str, *, held: bool) -> None:
    assert (CORE.fullmatch(path) is not None) is held
