"""What a settled act earned, or why not, line by line, for its citizen. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.actions.model import Status
from backend.actions.plausibility import SENTENCES
from backend.actions.verdicts import facts_of, version_of
from backend.kernel.errors import Language, Text
from backend.rules.explain import explain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from backend.actions.model import Action
    from backend.rules.service import RuleBook

EARNED = frozenset({Status.CREDITED, Status.REVERSED})


def explain_action(action: Action, book: RuleBook, zone: ZoneInfo, district: str | None) -> tuple[Text, ...]:
    """The lines: the arithmetic of an act that earned, the reason and the doubts about one that did not.

    Raises:
        ValueError: the stored figures cannot have come about by the rules they name.
    """
    settlement = action.settlement
    if settlement is None:
        return ()
    version, kind = version_of(action, book), book.kinds[action.kind]
    if action.status in EARNED and version is not None:
        terms = book.terms_for(action.kind, action.occurred_at, revision=settlement.revision)
        return (
            *explain(facts_of(action, kind, zone, district), kind, version, settlement, terms),
            *_lines_since(action),
        )
    if settlement.reason is None:
        return ()
    told = [settlement.reason.sentence(language, settlement.period) for language in (Language.ZH_CN, Language.EN)]
    return Text(*told), *(SENTENCES[doubt.code] for doubt in settlement.doubts)


def _lines_since(action: Action) -> Iterator[Text]:
    """What became of it after it was settled, and what it stands at."""
    for restated in action.restatements:
        rule = f"{restated.rule.code} v{restated.rule.version}"
        yield Text(
            f"按 {rule} 更正：减排 {restated.reduction_mg:+,} 毫克，积分 {restated.points:+,} 分",
            f"Corrected by {rule}: {restated.reduction_mg:+,} mg and {restated.points:+,} points",
        )
    if action.reversal is not None:
        yield Text("已由证据更充分的记录取代", "Replaced by a record with better evidence")
    if action.restatements or action.reversal is not None:
        yield Text(
            f"现计：减排 {action.reduction_mg:,} 毫克，积分 {action.points:,} 分",
            f"Now: {action.reduction_mg:,} mg and {action.points:,} points",
        )
