"""Why the life cycle of rules refuses; told to administrators in their own language."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal, Text
from backend.rules.drafts import Problem  # noqa: TC001 - the wire reads the annotations of refusals


@dataclass(eq=False)
class UnknownDraftError(Refusal):
    """There is no such draft."""

    draft: str

    code = "UNKNOWN_DRAFT"
    zh = "没有规则草稿 {draft}"
    en = "there is no rule draft {draft}"


@dataclass(eq=False)
class UnknownRuleError(Refusal):
    """No version of that rule is in force then."""

    rule: str

    code = "UNKNOWN_RULE"
    zh = "规则 {rule} 届时没有生效的版本"
    en = "no version of the rule {rule} is in force then"


@dataclass(eq=False)
class StaleDraftError(Refusal):
    """Somebody else took a step with the draft since it was read; ``revision`` is the one it has now."""

    revision: int

    code = "STALE_DRAFT"
    zh = "草稿已被他人更改（现为第 {revision} 次修订），请重新查看"
    en = "somebody changed the draft meanwhile (it is at revision {revision} now); look at it again"


@dataclass(eq=False)
class WrongStageError(Refusal):
    """The step is not for a draft in this stage."""

    stage: str
    expected: str

    code = "WRONG_STAGE"
    zh = "草稿处于 {stage} 阶段，此操作须在 {expected} 阶段进行"
    en = "the draft is {stage}; this step is for one that is {expected}"


@dataclass(eq=False)
class SamePersonError(Refusal):
    """Who wrote or submitted any of a draft does not approve it."""

    code = "SAME_PERSON"
    zh = "起草、修改或提交者不能审批同一草稿，须由他人审批"
    en = "who wrote, edited or submitted a draft cannot approve it; another person must"


@dataclass(eq=False)
class RuleProblemsError(Refusal):
    """The text cannot be used: the first problem in the message, all of them in ``problems``."""

    path: str
    problem: Text
    problems: tuple[Problem, ...]

    code = "RULE_PROBLEMS"
    zh = "内容不可用：{path} {problem}"
    en = "it cannot be used so: {path} {problem}"


@dataclass(eq=False)
class NotBacktestedError(Refusal):
    """A rule is submitted with a back-test, or with the reason why there is none."""

    code = "NOT_BACKTESTED"
    zh = "提交规则前须先回测，或说明不回测的理由"
    en = "back-test the rule before it is submitted, or say why not"


@dataclass(eq=False)
class ForeignProfileError(Refusal):
    """A programme keeps to the rules of one profile."""

    profile: str

    code = "FOREIGN_PROFILE"
    zh = "本项目不使用规则集 {profile}，不同规则集不可混用"
    en = "this programme does not use the profile {profile}; two profiles are never mixed"


@dataclass(eq=False)
class PeriodInPastError(Refusal):
    """The period begins further in the past than the programme allows."""

    days: int

    code = "PERIOD_IN_PAST"
    zh = "生效期的开始最多可在 {days} 天前"
    en = "the period may begin at most {days} days ago"


@dataclass(eq=False)
class PeriodOverlapError(Refusal):
    """The period covers the beginning of another version of the kind that is planned."""

    version: str

    code = "PERIOD_OVERLAP"
    zh = "生效期与已计划的 {version} 重叠"
    en = "the period covers the beginning of {version}, which is planned"


@dataclass(eq=False)
class PeriodGapError(Refusal):
    """The end of the period leaves the kind without any version; only retiring a rule may do that."""

    kind: str

    code = "PERIOD_GAP"
    zh = "生效期结束后 {kind} 将没有任何规则；如需停用请使用停用操作"
    en = "after the period {kind} would have no rule at all; retire the rule instead"
