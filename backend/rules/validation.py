"""Whether a profile is consistent with itself: what conversion relies on, checked before a version can ever bind.

Serves a profile read from YAML and a draft made by an administrator alike; changes nothing and decides nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

from backend.kernel.units import INT64_MAX
from backend.rules.errors import ProfileError
from backend.rules.model import Confidence, Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.rules.model import Cap, Kind, Methodology, Profile, RuleVersion


def list_problems(profile: Profile) -> tuple[ProfileError, ...]:
    """Everything that keeps the profile from being used; empty when it is consistent."""
    return (
        *_kind_problems(profile),
        *_rule_problems(profile),
        *_overlap_problems(profile),
        *_shared_cap_problems(profile),
    )


def _kind_problems(profile: Profile) -> Iterator[ProfileError]:
    if not profile.kinds:
        yield ProfileError("kinds", "there is none")
    for code, times in Counter(kind.code for kind in profile.kinds).items():
        if times > 1:
            yield ProfileError(f"kinds[{code}]", "is given twice")
    converted = {version.kind for version in profile.versions}
    for kind in profile.kinds:
        path = f"kinds[{kind.code}]"
        if kind.code not in converted:
            yield ProfileError(path, "no rule converts it")
        if not 1 <= kind.maximum <= INT64_MAX:
            yield ProfileError(f"{path}.maximum", "must be at least 1 and fit in 64 bits")
        if not (kind.name_zh.strip() and kind.name_en.strip()):
            yield ProfileError(path, "needs a name in both languages")
        if len(set(kind.claims)) < len(kind.claims) or not all(kind.claims):
            yield ProfileError(f"{path}.claims", "must be different lists of attribute names, none empty")


def _rule_problems(profile: Profile) -> Iterator[ProfileError]:
    sources: dict[str, Methodology] = {}
    kind_of: dict[str, str] = {}
    seen: set[str] = set()
    for version in profile.versions:
        path = f"rules[{version.name}]"
        if version.name in seen:
            yield ProfileError(path, "is given twice")
        seen.add(version.name)
        if version.profile != profile.code:
            yield ProfileError(f"{path}.profile", f"belongs to {version.profile}, not to {profile.code}")
        if kind_of.setdefault(version.rule, version.kind) != version.kind:
            yield ProfileError(f"{path}.kind", f"another version of this rule converts {kind_of[version.rule]}")
        if sources.setdefault(version.methodology.code, version.methodology) != version.methodology:
            yield ProfileError(f"{path}.methodology", "another rule tells this methodology differently")
        kind = profile.find_kind(version.kind)
        if kind is None:
            yield ProfileError(f"{path}.kind", f"there is no kind {version.kind}")
        else:
            yield from _bound_problems(path, version, kind)
        yield from _wording_problems(path, version)
        yield from _cap_problems(path, version.caps)


def _bound_problems(path: str, version: RuleVersion, kind: Kind) -> Iterator[ProfileError]:
    if not 1 <= version.minimum <= version.maximum <= kind.maximum:
        yield ProfileError(path, f"needs 1 <= minimum <= maximum <= {kind.maximum}, the most one {kind.code} can have")
    largest_mg = version.factor.floor_times(kind.maximum)
    if max(largest_mg, version.points.floor_times(largest_mg)) > INT64_MAX:
        yield ProfileError(f"{path}.factor", "the largest act would not fit in 64 bits")
    if version.declared_share.numerator > version.declared_share.denominator:
        yield ProfileError(f"{path}.declared_share", "must not exceed 1")
    if version.valid_from is not None and version.valid_to is not None and version.valid_from >= version.valid_to:
        yield ProfileError(f"{path}.valid_to", "must be later than valid_from")


def _wording_problems(path: str, version: RuleVersion) -> Iterator[ProfileError]:
    source = version.methodology
    if not (source.title_zh.strip() and source.title_en.strip() and source.publisher.strip()):
        yield ProfileError(f"{path}.methodology", "needs title, publisher and year of the source")
    if not (version.note_zh.strip() and version.note_en.strip()):
        yield ProfileError(path, "needs a note in both languages")
    if version.enabled and version.factor.numerator == 0:
        yield ProfileError(f"{path}.factor", "an enabled rule needs a factor above zero")
    told = (bool(version.why_disabled_zh), bool(version.why_disabled_en))
    if told != (not version.enabled, not version.enabled):
        yield ProfileError(f"{path}.why_disabled_zh", "a disabled rule, and no other, says why in both languages")
    if version.quantified and version.confidence is Confidence.LOW:
        yield ProfileError(f"{path}.quantified", "a factor of low confidence is recognised only")


def _cap_problems(path: str, caps: tuple[Cap, ...]) -> Iterator[ProfileError]:
    for (group, period, measure), times in Counter((cap.group, cap.period, cap.measure) for cap in caps).items():
        if times > 1:
            yield ProfileError(f"{path}.caps[{group} {period}]", f"limits {measure} twice")
    for cap in caps:
        if not 1 <= cap.limit <= INT64_MAX:
            yield ProfileError(f"{path}.caps[{cap.group} {cap.period}].limit", "must be at least 1 and fit in 64 bits")


def _overlap_problems(profile: Profile) -> Iterator[ProfileError]:
    of_kind: defaultdict[str, list[RuleVersion]] = defaultdict(list)
    for version in profile.versions:
        of_kind[version.kind].append(version)
    for kind, versions in of_kind.items():
        for first, second in combinations(versions, 2):
            if first.overlaps(second):
                yield ProfileError(f"rules[{second.name}]", f"is in force for {kind} at the same time as {first.name}")


def _shared_cap_problems(profile: Profile) -> Iterator[ProfileError]:
    """Rules that draw on one counter at the same time must agree on its limits and, if it counts quantity, the unit."""
    unit_of = {kind.code: kind.unit for kind in profile.kinds}
    for first, second in combinations(profile.versions, 2):
        if not first.overlaps(second):
            continue
        mine = {(cap.group, cap.period, cap.measure): cap.limit for cap in first.caps}
        theirs = {(cap.group, cap.period) for cap in second.caps}
        for cap in second.caps:
            path = f"rules[{second.name}].caps[{cap.group} {cap.period}]"
            if mine.get((cap.group, cap.period, cap.measure), cap.limit) != cap.limit:
                yield ProfileError(path, f"{first.name} shares this cap but has another limit")
        if unit_of.get(first.kind) != unit_of.get(second.kind):
            for group, period, measure in mine:
                if measure is Measure.QUANTITY and (group, period) in theirs:
                    yield ProfileError(
                        f"rules[{first.name}].caps[{group} {period}]",
                        f"counts quantity together with {second.name}, which is measured in another unit",
                    )
