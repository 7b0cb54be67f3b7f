"""The mutations on rule drafts as the API's tests send them, with good inputs for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphql import GraphQLUnionType, get_named_type

from schemas.request_path import GRAPHQL_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.api.client import Answer, Api

NAMES = (
    "draftRule",
    "draftKind",
    "createCampaign",
    "draftLimits",
    "editRuleDraft",
    "validateRule",
    "submitRule",
    "approveRule",
    "rejectRule",
    "publishRule",
    "retireRule",
    "discardRuleDraft",
)
DRAFT = "... on RuleDraft { id subject name stage revision author approver retires }"
PROBLEMS = "... on RuleProblems { path problems { path line column message } }"


def document(name: str) -> str:
    """The mutation, with what its draft or its refusal shows."""
    root = GRAPHQL_SCHEMA.mutation_type
    assert root is not None
    field = root.fields[name]
    result = get_named_type(field.type)
    assert isinstance(result, GraphQLUnionType)
    shown = f"__typename {DRAFT} ... on Refusal {{ code message }}"
    if any(member.name == "RuleProblems" for member in result.types):
        shown = f"{shown} {PROBLEMS}"
    return f"mutation ($input: {field.args['input'].type}) {{ {name}(input: $input) {{ {shown} }} }}"


def ratio(numerator: int, denominator: int = 1) -> dict[str, int]:
    """An exact ratio."""
    return {"numerator": numerator, "denominator": denominator}


def flat(numerator: int, denominator: int = 1) -> dict[str, Any]:
    """So many milligrams a base unit."""
    return {"perQuantity": {"rate": ratio(numerator, denominator)}}


BUS = {"code": "R-BUS2", "formula": flat(70_000)}
CAP = {"group": "city", "period": "YEAR", "measure": "POINTS", "limit": 10**9, "basis": "test", "scope": "EVERYBODY"}
GOOD: Mapping[str, Mapping[str, Any]] = {
    "draftRule": {"rule": BUS},
    "draftKind": {
        "kind": {
            "code": "funicular",
            "unit": "METRE",
            "category": "TRANSIT",
            "nameZh": "缆车",
            "nameEn": "Funicular",
            "maximum": 5_000,
            "claims": [["card", "tap_in"]],
            "hasDuration": True,
            "exclusion": "travel",
            "motion": {"slowestMPerH": 1_000, "fastestMPerH": 40_000, "longestS": 3_600},
            "evidenceZh": "乘车记录",
            "evidenceEn": "the operator's record",
            "icon": "cable-car",
        }
    },
    "createCampaign": {
        "campaign": {
            "code": "green-year",
            "nameZh": "绿色年",
            "nameEn": "Green year",
            "startsAt": "2027-01-01T00:00:00+08:00",
            "endsAt": "2027-12-31T00:00:00+08:00",
            "kinds": ["bus_ride"],
            "audience": "STREAK",
            "streakDays": 7,
            "bonus": 10,
            "budget": 5_000_000_000,
        }
    },
    "draftLimits": {"limits": {"limits": [{"cap": CAP, "categories": ["TRANSIT"]}]}},
    "editRuleDraft": {"rule": {"code": "R-BUS2", "condition": "weekday < 6"}},
    "submitRule": {"whyUntested": "a test"},
    "rejectRule": {"reason": "the figures are last year's"},
    "retireRule": {"rule": "R-BUS2", "why": {"zh": "停运", "en": "closed"}},
}


class Desk:
    """Sends the mutations, each under a key of its own, with the draft as it was answered last."""

    def __init__(self, api: Api, token_for: Callable[..., str]) -> None:
        self._api = api
        self._token_for = token_for
        self._count = 0
        self.draft: dict[str, Any] = {}

    async def send(
        self, name: str, role: str = "admin", who: str = "ann", *, language: str = "en", **given: Any
    ) -> Answer:
        """The answer to a good input but for what is given."""
        self._count += 1
        of_draft = {"draft": self.draft.get("id", "draft_none"), "revision": self.draft.get("revision", 1)}
        begins = name.startswith(("draft", "create", "retire"))
        known = {**({} if begins else of_draft), **GOOD.get(name, {}), **given}
        variables = {"input": {"idempotencyKey": f"key-{self._count:04}", **known}}
        return await self._api.post(document(name), variables, token=self._token_for(role, who), language=language)

    async def take(self, name: str, role: str = "admin", who: str = "ann", **given: Any) -> dict[str, Any]:
        """The draft after a step that is not refused."""
        result = (await self.send(name, role, who, **given)).result
        assert result["__typename"] == "RuleDraft", result
        self.draft = result
        return self.draft

    async def approved(self, begin: str = "draftRule", **given: Any) -> dict[str, Any]:
        """A draft of Ann's that Ben, a reviewer, agreed to."""
        await self.take(begin, **given)
        await self.take("validateRule")
        await self.take("submitRule")
        return await self.take("approveRule", "reviewer", "ben")
