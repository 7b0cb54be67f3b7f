"""Whether rules are consistent: what conversion relies on, checked before anything can ever bind.

Serves a profile read from YAML and an administrator's draft alike: each problem names the field and says what is wrong
in both languages. Changes nothing and decides nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING

from backend.kernel.units import INT64_MAX, Unit
from backend.rules.errors import at
from backend.rules.expressions import Environment
from backend.rules.formula import (
    HISTORY,
    OCCUPANTS,
    BaselineMinusProject,
    Carpool,
    FullPeriods,
    OwnBaseline,
    total,
    usual_rate,
)
from backend.rules.model import PERCENT, Audience, Confidence, Measure
from backend.rules.problems import (
    list_cap_problems,
    list_expression_problems,
    list_name_problems,
    list_unknown_kinds,
    must_be_between,
    must_fit,
    name_repeated,
    problem,
)
from backend.rules.wording import SKELETON

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backend.kernel.errors import Text
    from backend.kernel.units import Ratio
    from backend.rules.errors import ProfileError
    from backend.rules.formula import Formula, Term
    from backend.rules.model import Campaign, Kind, Limits, Methodology, Multiplier, Profile, RuleVersion
    from backend.rules.problems import Problems

MAX_PERCENT = 1_000
# The most that one act may earn, so that the sums of a city's years fit in 64 bits: 1,000 t, and a billion points.
MOST_MG = 10**12
MOST_POINTS = 10**9
MOST_BUDGET = 10**15
# Campaigns lie in years that every calendar and time zone can tell.
YEARS = (2000, 2999)
MAX_BONUS = 1_000_000
MAX_PRIORITY = 1_000
MAX_CAMPAIGN_DAYS = 366
SHORTEST_STREAK = 2
LONGEST_STREAK = 31
SHORTEST_PERIOD_S = 3_600
LONGEST_MOTION_S = 86_400


def list_problems(profile: Profile) -> tuple[ProfileError, ...]:
    """Everything that keeps the profile from being used; empty when it is consistent.

    For a draft, the profile is what is in force with the draft in it: versions of one publication may not overlap, but
    one published later may take the place of an earlier one.
    """
    kinds = {kind.code: kind for kind in profile.kinds}
    return (
        *_kinds_problems(profile),
        *_rule_problems(profile, kinds),
        *_overlap_problems(profile),
        *_shared_cap_problems(profile, kinds),
    )


def list_kind_problems(kind: Kind, path: str = "") -> Problems:
    """What keeps this kind from being used, below ``path``."""
    if not 1 <= kind.maximum <= INT64_MAX:
        yield must_fit(at(path, "maximum"))
    yield from list_name_problems(path, kind.name_zh, kind.name_en)
    if len(set(kind.claims)) < len(kind.claims) or not all(kind.claims):
        yield problem(
            at(path, "claims"),
            "须为互不相同且不为空的属性名列表",
            "must be different lists of attribute names, none empty",
        )
    if len(set(kind.required_attributes)) < len(kind.required_attributes):
        yield problem(at(path, "required_attributes"), "属性名重复", "names an attribute twice")
    if bool(kind.evidence_zh.strip()) != bool(kind.evidence_en.strip()):
        yield problem(
            at(path, "evidence_zh"), "证据说明须同时有中英文", "says what proves the act in both languages, or in none"
        )
    motion = kind.motion
    if motion is None:
        return
    if kind.unit is not Unit.METRE or not kind.has_duration:
        yield problem(at(path, "motion"), "只用于有时长的距离类行为", "is for acts of a distance that have a duration")
    if not 0 <= motion.slowest_m_per_h < motion.fastest_m_per_h:
        yield problem(at(path, "motion.fastest_m_per_h"), "须大于 slowest_m_per_h", "must be more than slowest_m_per_h")
    if not 1 <= motion.longest_s <= LONGEST_MOTION_S:
        yield must_be_between(at(path, "motion.longest_s"), 1, LONGEST_MOTION_S)


def list_methodology_problems(methodology: Methodology, path: str = "") -> Problems:
    """What keeps this methodology from being cited, below ``path``."""
    if not (methodology.title_zh.strip() and methodology.title_en.strip() and methodology.publisher.strip()):
        yield problem(path, "须有来源的名称、发布者和年份", "needs title, publisher and year of the source")
    for name in SKELETON:
        text: Text = getattr(methodology, name)
        if not (text.zh.strip() and text.en.strip()):
            yield problem(at(path, name), "须有中英文说明", "needs its text in both languages")


def list_version_problems(version: RuleVersion, profile: str, kinds: Mapping[str, Kind], path: str = "") -> Problems:
    """What keeps this version from being used in the profile of that code, as far as it alone can tell."""
    if version.profile != profile:
        yield problem(
            at(path, "profile"),
            f"属于口径 {version.profile}，而不是 {profile}",
            f"belongs to {version.profile}, not to {profile}",
        )
    yield from list_methodology_problems(version.methodology, at(path, "methodology"))
    yield from _wording_problems(version, path)
    formula_problems = [*_formula_problems(version.formula, at(path, "formula"))]
    yield from formula_problems
    kind = kinds.get(version.kind)
    if kind is None:
        yield problem(at(path, "kind"), f"没有行为种类 {version.kind}", f"there is no kind {version.kind}")
    elif not formula_problems:
        yield from _bound_problems(version, kind, path)
        yield from _unit_problems(version.formula, kind, path)
    yield from list_cap_problems(version.caps, at(path, "caps"))
    if version.condition is not None:
        yield from list_expression_problems(version.condition, Environment.RULE, at(path, "condition"))
    yield from _multiplier_problems(version.multipliers, at(path, "multipliers"))


def list_campaign_problems(campaign: Campaign, kinds: Mapping[str, Kind], path: str = "") -> Problems:
    """What keeps this campaign from being held, below ``path``."""
    yield from list_name_problems(path, campaign.name_zh, campaign.name_en)
    if campaign.starts_at >= campaign.ends_at:
        yield problem(at(path, "ends_at"), "须晚于 starts_at", "must be later than starts_at")
    elif (campaign.ends_at - campaign.starts_at).days > MAX_CAMPAIGN_DAYS:
        yield problem(
            at(path, "ends_at"),
            f"活动最长 {MAX_CAMPAIGN_DAYS} 天",
            f"a campaign lasts at most {MAX_CAMPAIGN_DAYS} days",
        )
    yield from list_unknown_kinds(campaign.kinds, kinds, at(path, "kinds"))
    if campaign.condition is not None:
        yield from list_expression_problems(campaign.condition, Environment.CAMPAIGN, at(path, "condition"))
    streaks = (SHORTEST_STREAK, LONGEST_STREAK) if campaign.audience is Audience.STREAK else (0, 0)
    for name, value, least, most in (
        ("streak_days", campaign.streak_days, *streaks),
        ("percent", campaign.percent, 0, MAX_PERCENT),
        ("bonus", campaign.bonus, 0, MAX_BONUS),
        ("priority", campaign.priority, 0, MAX_PRIORITY),
    ):
        if not least <= value <= most:
            yield must_be_between(at(path, name), least, most)
    if campaign.percent == campaign.bonus == 0:
        yield problem(at(path, "bonus"), "percent 与 bonus 至少一项大于零", "percent or bonus must be above zero")
    if not 1 <= campaign.budget <= MOST_BUDGET:
        yield must_be_between(at(path, "budget"), 1, MOST_BUDGET)
    for name, moment in (("starts_at", campaign.starts_at), ("ends_at", campaign.ends_at)):
        if not YEARS[0] <= moment.year <= YEARS[1]:
            yield must_be_between(at(path, name), *YEARS)


def list_limits_problems(
    limits: Limits, kinds: Mapping[str, Kind], versions: Iterable[RuleVersion] = (), path: str = ""
) -> Problems:
    """What keeps these limits from being used beside those versions, below ``path``."""
    taken = {cap.group for version in versions for cap in version.caps}
    yield from list_cap_problems(tuple(limit.cap for limit in limits.limits), at(path, "limits"), inside="cap")
    coverage: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for index, limit in enumerate(limits.limits):
        place = at(path, f"limits[{index}]")
        group = limit.cap.group
        if group in taken:
            yield problem(
                at(place, "cap.group"), f"{group} 已是规则的上限组", f"{group} is already a group of a rule's caps"
            )
        if coverage.setdefault(group, (limit.kinds, limit.categories)) != (limit.kinds, limit.categories):
            yield problem(at(place, "cap.group"), f"{group} 已用于其他行为", f"{group} already stands for other acts")
        yield from list_unknown_kinds(limit.kinds, kinds, at(place, "kinds"))
        units = {kind.unit for kind in kinds.values() if limit.covers(kind)}
        if limit.cap.measure is Measure.QUANTITY and len(units) > 1:
            yield problem(
                at(place, "cap.measure"),
                "所含行为的计量单位不同",
                "the acts it covers are measured in different units",
            )


def _kinds_problems(profile: Profile) -> Problems:
    for code, count in Counter(kind.code for kind in profile.kinds).items():
        if count > 1:
            yield problem(f"kinds[{code}]", "出现两次", "is given twice")
    for kind in profile.kinds:
        yield from list_kind_problems(kind, f"kinds[{kind.code}]")
    for field, names in (
        ("name_zh", [k.name_zh for k in profile.kinds]),
        ("name_en", [k.name_en for k in profile.kinds]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                yield problem(f"kinds.{field}", f"名称“{name}”重复", f"the name {name!r} is given twice")


def _rule_problems(profile: Profile, kinds: Mapping[str, Kind]) -> Problems:
    sources: dict[str, Methodology] = {}
    kind_of: dict[str, str] = {}
    seen: set[str] = set()
    for version in profile.versions:
        path = f"rules[{version.name}]"
        if version.name in seen:
            yield problem(path, "出现两次", "is given twice")
        seen.add(version.name)
        other = kind_of.setdefault(version.rule, version.kind)
        if other != version.kind:
            yield problem(
                f"{path}.kind", f"此规则的其他版本换算 {other}", f"another version of this rule converts {other}"
            )
        if sources.setdefault(version.methodology.code, version.methodology) != version.methodology:
            yield problem(
                f"{path}.methodology",
                "其他规则对此方法学的说明不同",
                "another rule tells this methodology differently",
            )
        yield from list_version_problems(version, profile.code, kinds, path)


def _wording_problems(version: RuleVersion, path: str) -> Problems:
    if not (version.note_zh.strip() and version.note_en.strip()):
        yield problem(at(path, "note_zh"), "须有中英文说明", "needs a note in both languages")
    told = (bool(version.why_disabled_zh), bool(version.why_disabled_en))
    if told != (not version.enabled, not version.enabled):
        yield problem(
            at(path, "why_disabled_zh"),
            "停用的规则（且仅停用的规则）须以中英文说明原因",
            "a disabled rule, and no other, says why in both languages",
        )
    if version.quantified and version.confidence is Confidence.LOW:
        yield problem(
            at(path, "quantified"), "可信度低的因子只能认可，不能量化", "a factor of low confidence is recognised only"
        )
    if _above_one(version.declared_share):
        yield problem(at(path, "declared_share"), "不得大于 1", "must not exceed 1")
    if version.valid_from is not None and version.valid_to is not None and version.valid_from >= version.valid_to:
        yield problem(at(path, "valid_to"), "须晚于 valid_from", "must be later than valid_from")


def _formula_problems(formula: Formula, path: str) -> Problems:
    match formula:
        case BaselineMinusProject():
            if not formula.baseline:
                yield problem(f"{path}.baseline", "至少须有一项", "needs at least one term")
            yield from _term_problems(formula.baseline, f"{path}.baseline")
            yield from _term_problems(formula.project, f"{path}.project")
            if _exceeds(total(formula.project), total(formula.baseline)):
                yield problem(f"{path}.project", "项目排放高于基准排放", "the project emits more than the baseline")
        case Carpool() if formula.detour.numerator >= formula.detour.denominator:
            yield problem(f"{path}.detour", "须小于 1", "must be below 1")
        case OwnBaseline() if _above_one(formula.most):
            yield problem(f"{path}.most", "不得大于 1", "must not exceed 1")
        case FullPeriods() if formula.period_s < SHORTEST_PERIOD_S:
            yield problem(
                f"{path}.period_s", f"不得短于 {SHORTEST_PERIOD_S} 秒", f"must be at least {SHORTEST_PERIOD_S} seconds"
            )


def _term_problems(terms: tuple[Term, ...], path: str) -> Problems:
    seen: set[str] = set()
    for index, term in enumerate(terms):
        place = f"{path}[{index}]"
        yield from list_name_problems(place, term.name_zh, term.name_en)
        if {term.name_zh, term.name_en} & seen:
            yield name_repeated(place)
        seen |= {term.name_zh, term.name_en}


def _bound_problems(version: RuleVersion, kind: Kind, path: str) -> Problems:
    if not 1 <= version.minimum <= version.maximum:
        yield problem(at(path, "minimum"), "须在 1 与 maximum 之间", "must be from 1 to maximum")
    if version.maximum > kind.maximum:
        yield problem(
            at(path, "maximum"),
            f"不得超过 {kind.maximum}，即一次 {kind.code} 的最大可能值",
            f"must not exceed {kind.maximum}, the most one {kind.code} can have",
        )
    rate = usual_rate(version.formula)
    if version.enabled and rate.numerator == 0:
        yield problem(at(path, "formula"), "启用的规则须有大于零的因子", "an enabled rule needs a factor above zero")
    largest_mg = rate.floor_times(kind.maximum)
    most = prod(max(multiplier.percent, PERCENT) for multiplier in version.multipliers)
    points = version.points.floor_times(largest_mg) * most // PERCENT ** len(version.multipliers)
    if largest_mg > MOST_MG or points > MOST_POINTS:
        yield problem(
            at(path, "formula"),
            "最大的行为会超过 1,000 吨或 10 亿分",
            "the largest act would be more than 1,000 t or a billion points",
        )


def _unit_problems(formula: Formula, kind: Kind, path: str) -> Problems:
    """What the formula asks of an act and acts of the kind do not have."""
    place = at(path, "formula.family")
    match formula:
        case Carpool():
            unit, attributes = Unit.METRE, {OCCUPANTS}
        case OwnBaseline():
            unit, attributes = Unit.WATT_HOUR, {HISTORY}
        case FullPeriods():
            unit, attributes = Unit.COUNT, set()
            if not kind.has_duration:
                yield problem(place, f"{kind.code} 没有时长", f"{kind.code} has no duration to measure")
        case _:
            return
    if kind.unit is not unit:
        yield problem(
            place,
            f"只适用于以 {unit} 计量的行为，而 {kind.code} 以 {kind.unit} 计量",
            f"is for acts measured in {unit}, but {kind.code} is measured in {kind.unit}",
        )
    for attribute in attributes.difference(kind.required_attributes):
        yield problem(
            place, f"{kind.code} 未要求属性 {attribute}", f"{kind.code} does not require the attribute {attribute}"
        )


def _multiplier_problems(multipliers: tuple[Multiplier, ...], path: str) -> Problems:
    seen: set[str] = set()
    for index, multiplier in enumerate(multipliers):
        place = f"{path}[{index}]"
        yield from list_name_problems(place, multiplier.name_zh, multiplier.name_en)
        if {multiplier.name_zh, multiplier.name_en} & seen:
            yield name_repeated(place)
        seen |= {multiplier.name_zh, multiplier.name_en}
        if not 0 <= multiplier.percent <= MAX_PERCENT:
            yield must_be_between(f"{place}.percent", 0, MAX_PERCENT)
        yield from list_expression_problems(multiplier.condition, Environment.RULE, f"{place}.condition")


def _overlap_problems(profile: Profile) -> Problems:
    """Versions of one publication; of several publications the last is in force."""
    published: defaultdict[tuple[str, int], list[RuleVersion]] = defaultdict(list)
    for version in profile.versions:
        published[version.kind, version.revision].append(version)
    for (kind, _), versions in published.items():
        for first, second in combinations(versions, 2):
            if first.overlaps(second):
                yield problem(
                    f"rules[{second.name}]",
                    f"与 {first.name} 同时对 {kind} 生效",
                    f"is in force for {kind} at the same time as {first.name}",
                )


def _shared_cap_problems(profile: Profile, kinds: Mapping[str, Kind]) -> Problems:
    """Rules that draw on one counter at the same time must agree on its limits and, if it counts quantity, the unit."""
    for first, second in combinations(profile.versions, 2):
        replaced = first.kind == second.kind and first.revision != second.revision
        if replaced or not first.overlaps(second):
            continue
        mine = {(cap.group, cap.period, cap.scope, cap.measure): cap.limit for cap in first.caps}
        theirs = {(cap.group, cap.period, cap.scope) for cap in second.caps}
        for index, cap in enumerate(second.caps):
            if mine.get((cap.group, cap.period, cap.scope, cap.measure), cap.limit) != cap.limit:
                yield problem(
                    f"rules[{second.name}].caps[{index}]",
                    f"与 {first.name} 共用上限组 {cap.group}，但上限不同",
                    f"{first.name} shares the group {cap.group} but has another limit",
                )
        units = [kinds[version.kind].unit for version in (first, second) if version.kind in kinds]
        if len(set(units)) > 1:
            for index, cap in enumerate(first.caps):
                if cap.measure is Measure.QUANTITY and (cap.group, cap.period, cap.scope) in theirs:
                    yield problem(
                        f"rules[{first.name}].caps[{index}]",
                        f"与计量单位不同的 {second.name} 共用上限组 {cap.group} 计数量",
                        f"counts quantity of {cap.group} with {second.name}, which is measured in another unit",
                    )


def _above_one(ratio: Ratio) -> bool:
    return ratio.numerator > ratio.denominator


def _exceeds(first: Ratio, second: Ratio) -> bool:
    return first.numerator * second.denominator > second.numerator * first.denominator
