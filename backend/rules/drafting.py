"""Reading what a draft says and finding what is wrong with it, beside a rule book. Pure.

Its own form (each field, each expression, each name) is judged when it is written: what is broken is never saved.
Beside other rules, which come and go, it is judged whenever somebody validates or publishes it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from backend.kernel.errors import Text
from backend.rules.drafts import Problem, Subject
from backend.rules.errors import ProfileError
from backend.rules.model import Campaign, Kind, Limits, Profile, RuleVersion
from backend.rules.refusals import ForeignProfileError, RuleProblemsError
from backend.rules.validation import (
    list_campaign_problems,
    list_kind_problems,
    list_limits_problems,
    list_problems,
    list_version_problems,
)
from backend.rules.wording import (
    read_campaign,
    read_kind,
    read_limits,
    read_version,
    write_campaign,
    write_kind,
    write_limits,
    write_version,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from backend.rules.drafts import Draft, Plain
    from backend.rules.model import Methodology
    from backend.rules.service import RuleBook

Content = RuleVersion | Kind | Campaign | Limits
LIMITS_NAME = "programme"
_UNDERSCORE = re.compile("_([a-z])")
_NAMED = {Subject.RULE: "rule", Subject.KIND: "code", Subject.CAMPAIGN: "code"}


def name_of(subject: Subject, wording: Mapping[str, Any]) -> str:
    """The code of what a text is about."""
    return LIMITS_NAME if subject is Subject.LIMITS else str(wording.get(_NAMED[subject], ""))


def newest(book: RuleBook, subject: Subject, name: str) -> int:
    """What tells the newest of that name from the one before: a rule's version, else a revision; 0 before the first."""
    match subject:
        case Subject.RULE:
            return max((version.version for version in book.find_rule(name)), default=0)
        case Subject.CAMPAIGN:
            return max((campaign.revision for campaign in book.campaigns if campaign.code == name), default=0)
        case Subject.LIMITS:
            return max((limits.revision for limits in book.limits), default=0)
        case Subject.KIND:
            return 0


def published_wording(subject: Subject, name: str, book: RuleBook, now: datetime) -> Plain:
    """What is published of the subject: the version in force, else the newest; empty where nothing is."""
    if subject is Subject.RULE:
        versions = book.find_rule(name)
        in_force = (v for v in versions if book.version_for(v.kind, now) is v)
        found = next(in_force, versions[0] if versions else None)
        return write_version(dataclasses.replace(found, valid_from=None, valid_to=None)) if found else {}
    if subject is Subject.KIND:
        return write_kind(book.kinds[name]) if name in book.kinds else {}
    if subject is Subject.CAMPAIGN:
        latest = next((campaign for campaign in book.latest_campaigns() if campaign.code == name), None)
        return write_campaign(latest) if latest else {}
    return write_limits(Limits(revision=0, limits=book.latest_limits()))


def write(
    subject: Subject, wording: Mapping[str, Any], book: RuleBook, methodologies: Mapping[str, Methodology]
) -> Plain:
    """The text in its one form, each field read and checked.

    Raises:
        ForeignProfileError: it is for another profile than the book's.
        RuleProblemsError: it is broken; all that is found is told.
    """
    given = dict(wording)
    if subject is Subject.RULE:
        profile = given.get("profile") or book.profile
        if profile != book.profile:
            raise ForeignProfileError(str(profile))
        given["version"] = newest(book, subject, name_of(subject, wording)) + 1
        given["profile"] = book.profile
    try:
        content = _read(subject, given, methodologies)
    except ProfileError as error:
        raise _refusal([error]) from error
    problems = [*_own_problems(content, book)]
    if problems:
        raise _refusal(problems)
    return _written(content)


def read(draft: Draft) -> Content:
    """What the draft says."""
    return read_wording(draft.subject, draft.wording)


def read_wording(subject: Subject, wording: Mapping[str, Any]) -> Content:
    """What a text in its one form says."""
    return _read(subject, wording, {})


def read_rule(draft: Draft) -> RuleVersion:
    """The version that the draft of a rule proposes."""
    return read_version(draft.wording)


def problems_beside(draft: Draft, book: RuleBook, now: datetime) -> tuple[Problem, ...]:
    """What stands against the draft in this rule book: its own form, other rules, and what was published meanwhile."""
    content = read(draft)
    found = [*_own_problems(content, book)]
    if newest(book, draft.subject, draft.name) != draft.base:
        problem = Text("起草后已发布新版本，请重新修改", "a newer version was published meanwhile; edit the draft anew")
        found.append(ProfileError("version" if draft.subject is Subject.RULE else "", problem))
    if draft.subject is Subject.RULE and not found:
        found += _shared_problems(read_rule(draft), book, now)
    return _shown(found)


def _read(subject: Subject, wording: Mapping[str, Any], methodologies: Mapping[str, Methodology]) -> Content:
    match subject:
        case Subject.RULE:
            return read_version(wording, methodologies=methodologies)
        case Subject.KIND:
            return read_kind(wording)
        case Subject.CAMPAIGN:
            return read_campaign(wording)
        case Subject.LIMITS:
            return read_limits(wording)


def _written(content: Content) -> Plain:
    if isinstance(content, RuleVersion):
        return write_version(content)
    if isinstance(content, Kind):
        return write_kind(content)
    return write_campaign(content) if isinstance(content, Campaign) else write_limits(content)


def _own_problems(content: Content, book: RuleBook) -> Iterator[ProfileError]:
    """What the text alone is to blame for."""
    if isinstance(content, RuleVersion):
        yield from list_version_problems(content, book.profile, book.kinds)
        other = next((v.kind for v in book.find_rule(content.rule) if v.kind != content.kind), None)
        if other is not None:
            yield ProfileError("kind", Text(f"该规则核算的是 {other}", f"this rule converts {other}"))
    elif isinstance(content, Kind):
        yield from list_kind_problems(content)
        if content.code in book.kinds:
            yield ProfileError("code", Text("已有此行为种类，不可更改", "there is such a kind, and it never changes"))
    elif isinstance(content, Campaign):
        yield from list_campaign_problems(content, book.kinds)
    else:
        versions = [version for versions in book.versions.values() for version in versions]
        yield from list_limits_problems(content, book.kinds, versions)


def _shared_problems(version: RuleVersion, book: RuleBook, now: datetime) -> Iterator[ProfileError]:
    """What makes a version disagree with the programme's limits, and the others that are in force or planned."""
    taken = {limit.cap.group for limit in book.latest_limits()}
    for index, cap in enumerate(version.caps):
        if cap.group in taken:
            text = Text(f"{cap.group} 已是项目自身的上限组", f"{cap.group} is a group of the programme's own limits")
            yield ProfileError(f"caps[{index}].group", text)
    others = []
    for kind, versions in book.versions.items():
        current = book.version_for(kind, now)
        others += [v for v in versions if v is current or (v.valid_from is not None and v.valid_from > now)]
    new = dataclasses.replace(version, revision=book.revision + 1)
    known = {(problem.path, problem.problem) for problem in list_problems(_profile(book, others))}
    prefix = f"rules[{version.name}]."
    for problem in list_problems(_profile(book, [*others, new])):
        if (problem.path, problem.problem) not in known:
            yield dataclasses.replace(problem, path=problem.path.removeprefix(prefix))


def _profile(book: RuleBook, versions: Iterable[RuleVersion]) -> Profile:
    return Profile(
        code=book.profile, name_zh="", name_en="", kinds=tuple(book.kinds.values()), versions=tuple(versions)
    )


def _shown(problems: Iterable[ProfileError]) -> tuple[Problem, ...]:
    """The problems, their fields named as an administrator's input names them."""
    return tuple(Problem(_as_input(found.path), found.problem, found.line, found.column) for found in problems)


def _as_input(path: str) -> str:
    return "code" if path == "rule" else _UNDERSCORE.sub(lambda letter: letter[1].upper(), path)


def refuse(problems: tuple[Problem, ...]) -> RuleProblemsError:
    """The refusal that tells these problems."""
    return RuleProblemsError(problems[0].path, problems[0].problem, problems)


def _refusal(problems: Iterable[ProfileError]) -> RuleProblemsError:
    return refuse(_shown(problems))
