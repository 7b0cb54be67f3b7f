"""Why a back-test is refused; told to administrators in their own language."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal, Text


@dataclass(eq=False)
class BacktestPeriodError(Refusal):
    """The days are none that acts can be replayed over."""

    problem: Text

    code = "BACKTEST_PERIOD"
    zh = "回测期间无效：{problem}"
    en = "no period to back-test over: {problem}"


@dataclass(eq=False)
class UnknownVersionError(Refusal):
    """No such version of a rule was published."""

    rule: str
    version: int

    code = "UNKNOWN_VERSION"
    zh = "规则 {rule} 没有已发布的第 {version} 版"
    en = "no version {version} of the rule {rule} was published"


@dataclass(eq=False)
class UnknownProfileError(Refusal):
    """No profile of that code comes with the software."""

    profile: str

    code = "UNKNOWN_PROFILE"
    zh = "没有规则集 {profile}"
    en = "there is no profile {profile}"


@dataclass(eq=False)
class UnknownBacktestError(Refusal):
    """There is no such back-test."""

    backtest: str

    code = "UNKNOWN_BACKTEST"
    zh = "没有回测 {backtest}"
    en = "there is no back-test {backtest}"


@dataclass(eq=False)
class BacktestEndedError(Refusal):
    """The back-test is over and cannot be cancelled any more."""

    outcome: str

    code = "BACKTEST_ENDED"
    zh = "回测已结束（{outcome}）"
    en = "the back-test is over ({outcome})"
