"""The mutations that bring a rule into the book, and what staff read of it: success, each refusal, each role."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.operations import read_operation
from tests.api.documents import written
from tests.api.rule_documents import BUS, CAP, GOOD, NAMES, Desk, flat, ratio
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Answer, Api

pytestmark = pytest.mark.anyio

REVIEW = read_operation("RuleDraft")
DECISIONS = {"approveRule", "rejectRule"}
ROLES = ("citizen", "partner", "merchant", "enterprise", "verifier", "reviewer", "admin")
LOG = """query ($subject: String, $first: Int, $after: String) { admin { ruleLog(
  subject: $subject, first: $first, after: $after) {
  pageInfo { hasNextPage endCursor }
  nodes { actor step subject draft reason revision difference { path before after } } } } }"""
LISTED = "query ($stage: RuleStage) { admin { ruleDrafts(stage: $stage) { nodes { id } } } }"


@pytest.fixture
def desk(api: Api, token_for: Callable[..., str]) -> Desk:
    """The administrators' mutations."""
    return Desk(api, token_for)


def refusal(answer: Answer) -> tuple[str, str]:
    """Code and message of a refused mutation."""
    return answer.result["code"], answer.result["message"]


async def test_a_rule_is_drafted_reviewed_and_published(
    desk: Desk, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    admin = token_for("admin", "ann")
    drafted = await desk.take("draftRule", reason="new figures")
    assert {**drafted, "id": ""} == {
        "__typename": "RuleDraft",
        "id": "",
        "subject": "RULE",
        "name": "R-BUS2",
        "stage": "DRAFT",
        "revision": 1,
        "author": "staff:ann",
        "approver": None,
        "retires": False,
    }
    assert (await desk.take("editRuleDraft"))["stage"] == "DRAFT"
    assert (await desk.take("validateRule"))["stage"] == "VALIDATED"
    assert (await desk.take("submitRule"))["stage"] == "SUBMITTED"
    assert (await desk.take("rejectRule", "reviewer", "ben"))["stage"] == "REJECTED"
    await desk.take("editRuleDraft", rule={"code": "R-BUS2", "condition": None})
    await desk.take("validateRule")
    await desk.take("submitRule")
    shown = (await api.post(REVIEW, {"id": drafted["id"]}, token=admin)).result["ruleDraft"]
    assert {key: shown[key] for key in ("stage", "revision", "whyUntested", "published", "affected", "problems")} == {
        "stage": "SUBMITTED",
        "revision": 8,
        "whyUntested": "a test",
        "published": None,
        "affected": None,
        "problems": [],
    }
    assert shown["rule"] == {
        "version": 2,
        "enabled": True,
        "validFrom": None,
        "validTo": None,
        "condition": None,
        "formula": {"family": "PER_QUANTITY", "rate": ratio(70_000)},
    }
    approved = await desk.take("approveRule", "reviewer", "ben")
    assert (approved["stage"], approved["approver"]) == ("APPROVED", "staff:ben")
    published = await desk.take("publishRule")
    assert (published["stage"], published["revision"]) == ("PUBLISHED", 10)
    book = await services.rules.book()

    page = (await api.post(LOG, {"subject": "rule:R-BUS2", "first": 6}, token=admin)).result["ruleLog"]
    rest = {"subject": "rule:R-BUS2", "first": 6, "after": page["pageInfo"]["endCursor"]}
    last = (await api.post(LOG, rest, token=admin)).result["ruleLog"]
    entries = [*page["nodes"], *last["nodes"]][::-1]
    assert [page["pageInfo"]["hasNextPage"], last["pageInfo"]["hasNextPage"]] == [True, False]
    assert [(entry["actor"], entry["step"], entry["reason"]) for entry in entries] == [
        ("staff:ann", "DRAFT", "new figures"),
        ("staff:ann", "EDIT", ""),
        ("staff:ann", "VALIDATE", ""),
        ("staff:ann", "SUBMIT", ""),
        ("staff:ben", "REJECT", "the figures are last year's"),
        ("staff:ann", "EDIT", ""),
        ("staff:ann", "VALIDATE", ""),
        ("staff:ann", "SUBMIT", ""),
        ("staff:ben", "APPROVE", ""),
        ("staff:ann", "PUBLISH", ""),
    ]
    assert {entry["draft"] for entry in entries} == {drafted["id"]}
    assert [entry["revision"] for entry in entries] == [None] * 9 + [book.revision]
    assert entries[1]["difference"] == [{"path": "condition", "before": None, "after": '"weekday < 6"'}]


async def test_what_was_known_before_a_publication_is_still_answered(
    desk: Desk, api: Api, services: Services, clock: ManualClock
) -> None:
    await desk.approved(rule={"code": "R-MET2", "formula": flat(45_000)})
    before = clock.now()
    clock.advance(timedelta(seconds=1))
    begin = clock.now() - timedelta(days=1)
    await desk.take("publishRule", validFrom=written(begin), validTo=written(clock.now()))
    rules = (
        "query ($asOf: DateTime, $knownAt: DateTime) "
        '{ rules(kind: "metro_ride", asOf: $asOf, knownAt: $knownAt) { version revision } }'
    )
    book = await services.rules.book()
    for as_of, known_at, version, revision in (
        (begin, None, 2, book.revision),
        (begin, before, 1, 1),
        (begin - timedelta(milliseconds=1), None, 1, 1),
        (clock.now(), None, 1, 1),
    ):
        asked = {"asOf": written(as_of), "knownAt": known_at and written(known_at)}
        assert (await api.post(rules, asked)).result == [{"version": version, "revision": revision}]
    long_ago = {"knownAt": "2020-01-01T00:00:00Z"}
    assert (await api.post(rules, long_ago)).result == []


async def test_kinds_campaigns_and_limits_are_drafted_and_shown(
    desk: Desk, api: Api, token_for: Callable[..., str]
) -> None:
    admin = token_for("admin", "ann")
    expected = {
        "draftKind": ("funicular", {"kind": {"code": "funicular", "name": "Funicular", "unit": "METRE"}}),
        "createCampaign": (
            "green-year",
            {
                "campaign": {
                    "campaignCode": "green-year",
                    "name": "Green year",
                    "startsAt": "2026-12-31T16:00:00.000Z",
                    "endsAt": "2027-12-30T16:00:00.000Z",
                    "budget": 5_000_000_000,
                }
            },
        ),
        "draftLimits": (
            "programme",
            {
                "limits": [
                    {
                        "kinds": [],
                        "categories": ["TRANSIT"],
                        "cap": {name: CAP[name] for name in ("group", "period", "measure", "limit")},
                    }
                ]
            },
        ),
    }
    for name, (subject, content) in expected.items():
        await desk.approved(name)
        assert desk.draft["name"] == subject
        shown = (await api.post(REVIEW, {"id": desk.draft["id"]}, token=admin)).result["ruleDraft"]
        contents = {part: shown[part] for part in ("rule", "kind", "campaign", "limits")}
        assert contents == {**dict.fromkeys(contents), **content}
        assert (await desk.take("publishRule"))["stage"] == "PUBLISHED"
    held = (await api.post("{ admin { campaigns { campaignCode kinds streakDays } } }", token=admin)).result
    assert held == {"campaigns": [{"campaignCode": "green-year", "kinds": ["bus_ride"], "streakDays": 7}]}
    kinds = (await api.post("{ kinds { code exclusion icon evidence } }", language="zh")).result
    assert {"code": "funicular", "exclusion": "travel", "icon": "cable-car", "evidence": "乘车记录"} in kinds


async def test_a_rule_is_retired_and_a_draft_given_up(desk: Desk, api: Api, token_for: Callable[..., str]) -> None:
    proposed = await desk.take("retireRule")
    assert (proposed["stage"], proposed["retires"]) == ("SUBMITTED", True)
    assert (await desk.take("approveRule", "reviewer", "ben"))["stage"] == "APPROVED"
    assert (await desk.take("discardRuleDraft"))["stage"] == "DISCARDED"
    asked = [
        (await api.post(LISTED, given, token=token_for("verifier", "vic"))).result
        for given in ({}, {"stage": "DISCARDED"}, {"stage": "DRAFT"})
    ]
    nodes = [{"id": proposed["id"]}]
    assert asked == [{"ruleDrafts": {"nodes": found}} for found in (nodes, nodes, [])]


async def test_every_step_is_for_its_office_only(desk: Desk, services: Services) -> None:
    await desk.take("draftRule")
    before = await dump(services)
    for name in NAMES:
        for role in ROLES:
            if role == "admin" or (role == "reviewer" and name in DECISIONS):
                continue
            answer = await desk.send(name, role, "ann")
            assert (name, role, answer.code) == (name, role, "FORBIDDEN")
    assert await dump(services) == before


async def test_only_staff_read_drafts_and_log(api: Api, token_for: Callable[..., str]) -> None:
    for asked in (LOG, LISTED, REVIEW, "{ admin { campaigns { name } } }"):
        variables = {"id": "draft_none"} if asked is REVIEW else None
        assert (await api.post(asked, variables)).code == "UNAUTHENTICATED"
        for role in ROLES:
            answer = await api.post(asked, variables, token=token_for(role, "alice"))
            if role in {"verifier", "reviewer", "admin"}:
                assert "errors" not in answer.body
            else:
                assert (role, answer.code) == (role, "FORBIDDEN")


DRAFTS_REFUSED: list[tuple[str, dict[str, Any], tuple[str, str, str]]] = [
    (
        "draftRule",
        {"rule": {**BUS, "condition": 'quantity > 1 &&\n district == "京口" && speed > 1'}},
        ("RULE_PROBLEMS", "condition", ""),
    ),
    ("draftRule", {"rule": {**BUS, "formula": flat(1, 0)}}, ("RULE_PROBLEMS", "formula.rate", "")),
    ("draftRule", {"rule": {**BUS, "formula": flat(-1, 2)}}, ("RULE_PROBLEMS", "formula.rate", "")),
    ("draftRule", {"rule": {**BUS, "minimum": str(-(2**63))}}, ("RULE_PROBLEMS", "minimum", "")),
    ("draftRule", {"rule": {**BUS, "kind": "teleport"}}, ("RULE_PROBLEMS", "kind", "")),
    ("draftRule", {"rule": {"code": "R-NEW1"}}, ("RULE_PROBLEMS", "kind", "is missing")),
    ("draftRule", {"rule": {"code": "r 1"}}, ("RULE_PROBLEMS", "code", "")),
    ("draftRule", {"rule": {**BUS, "boundsBasis": None}}, ("RULE_PROBLEMS", "boundsBasis", "")),
    ("draftRule", {"rule": {**BUS, "profile": "shanghai-2026"}}, ("FOREIGN_PROFILE", "", "")),
    ("draftKind", {"kind": {**GOOD["draftKind"]["kind"], "code": "bus_ride"}}, ("RULE_PROBLEMS", "code", "")),
    (
        "createCampaign",
        {"campaign": {**GOOD["createCampaign"]["campaign"], "endsAt": "2020-01-01T00:00:00Z"}},
        ("RULE_PROBLEMS", "endsAt", ""),
    ),
    (
        "draftLimits",
        {"limits": {"limits": [{"cap": CAP, "kinds": ["teleport"]}]}},
        ("RULE_PROBLEMS", "limits[0].kinds", "there is no kind teleport"),
    ),
    ("retireRule", {"rule": "R-NONE"}, ("UNKNOWN_RULE", "", "")),
    ("retireRule", {"at": "2020-01-01T00:00:00Z"}, ("PERIOD_IN_PAST", "", "")),
    ("retireRule", {"why": {"zh": "停运", "en": " "}}, ("RULE_PROBLEMS", "whyDisabledEn", "")),
    ("draftRule", {"idempotencyKey": "short"}, ("INVALID_INPUT", "", "")),
    ("draftRule", {"reason": "x" * 501}, ("INVALID_INPUT", "", "")),
    ("draftRule", {"idempotencyKey": "used-key", "rule": {**BUS, "minimum": 1}}, ("IDEMPOTENCY_CONFLICT", "", "")),
]


async def test_what_is_broken_is_refused_in_both_languages_and_not_saved(desk: Desk, services: Services) -> None:
    await desk.take("draftRule", idempotencyKey="used-key")
    before = await dump(services)
    for name, given, (code, path, text) in DRAFTS_REFUSED:
        told = [await desk.send(name, language=language, **given) for language in ("zh", "en")]
        assert [(name, answer.result["code"]) for answer in told] == [(name, code)] * 2
        chinese, english = (answer.result["message"] for answer in told)
        assert any("一" <= letter <= "鿿" for letter in chinese)
        assert not any("一" <= letter <= "鿿" for letter in english)
        if path:
            assert [answer.result["path"] for answer in told] == [path] * 2
            assert told[1].result["problems"][0]["path"] == path
            assert english == f"it cannot be used so: {path} {told[1].result['problems'][0]['message']}"
        assert english.endswith(text)
    assert await dump(services) == before
    answer = await desk.send(*DRAFTS_REFUSED[0][:1], **DRAFTS_REFUSED[0][1])
    assert [(found["line"], found["column"]) for found in answer.result["problems"]] == [(2, 22)]


async def test_steps_are_refused_in_both_languages(desk: Desk, services: Services, clock: ManualClock) -> None:
    async def refused(name: str, zh: str, en: str, code: str, who: str = "ann", **given: Any) -> None:
        before = await dump(services)
        for language, message in (("zh", zh), ("en", en)):
            answer = await desk.send(name, who=who, language=language, **given)
            assert refusal(answer) == (code, message)
        assert await dump(services) == before

    drafted = await desk.take("draftRule")
    await refused(
        "approveRule", "没有规则草稿 draft_x", "there is no rule draft draft_x", "UNKNOWN_DRAFT", draft="draft_x"
    )
    await refused(
        "submitRule",
        "草稿处于 DRAFT 阶段，此操作须在 VALIDATED / BACKTESTED 阶段进行",
        "the draft is DRAFT; this step is for one that is VALIDATED / BACKTESTED",
        "WRONG_STAGE",
    )
    await desk.take("validateRule")
    await refused(
        "submitRule",
        "草稿已被他人更改（现为第 2 次修订），请重新查看",
        "somebody changed the draft meanwhile (it is at revision 2 now); look at it again",
        "STALE_DRAFT",
        revision=drafted["revision"],
    )
    await refused(
        "submitRule",
        "提交规则前须先回测，或说明不回测的理由",
        "back-test the rule before it is submitted, or say why not",
        "NOT_BACKTESTED",
        whyUntested=None,
    )
    await refused(
        "editRuleDraft",
        "字段 draft 无效：须且只须给出 rule / kind / campaign / limits 之一",
        "field draft is invalid: give exactly one of rule / kind / campaign / limits",
        "INVALID_INPUT",
        limits={"limits": []},
    )
    await desk.take("submitRule")
    await refused(
        "approveRule",
        "起草、修改或提交者不能审批同一草稿，须由他人审批",
        "who wrote, edited or submitted a draft cannot approve it; another person must",
        "SAME_PERSON",
    )
    await refused(
        "rejectRule",
        "字段 reason 无效：1–500 个字符，不含控制字符",
        "field reason is invalid: 1–500 characters, none of them control characters",
        "INVALID_INPUT",
        reason=" ",
    )
    await desk.take("approveRule", "reviewer", "ben")
    await refused(
        "publishRule",
        "生效期的开始最多可在 31 天前",
        "the period may begin at most 31 days ago",
        "PERIOD_IN_PAST",
        validFrom=written(clock.now() - timedelta(days=32)),
    )
    await refused(
        "publishRule",
        "字段 validTo 无效：须晚于 validFrom",
        "field validTo is invalid: must be later than validFrom",
        "INVALID_INPUT",
        validTo=written(clock.now()),
    )


BOTH = {"zh": "试验用", "en": "for a test"}
SKELETON = (
    "scope",
    "applicability",
    "additionality",
    "duplicateClaims",
    "boundary",
    "baseline",
    "formula",
    "monitoring",
    "verification",
)
ROPEWAY_RULE = {
    "code": "R-ROPE1",
    "kind": "ropeway",
    "newMethodology": {
        "code": "ROPE-2026",
        "titleZh": "索道",
        "titleEn": "Ropeways",
        "publisher": "Publisher",
        "year": 2026,
        **dict.fromkeys(SKELETON, BOTH),
    },
    "formula": {
        "baselineMinusProject": {
            "baseline": [{"nameZh": "汽车", "nameEn": "Car", "rate": ratio(467, 10)}],
            "project": [{"nameZh": "电力", "nameEn": "Power", "rate": ratio(67, 10)}],
        }
    },
    "quantified": False,
    "fullCreditTier": "OPERATOR",
    "minimum": 100,
    "maximum": 5_000,
    "boundsBasis": "test",
    "caps": [{**CAP, "group": "ropeway", "period": "DAY", "measure": "COUNT", "limit": 4, "scope": "CITIZEN"}],
    "confidence": "MEDIUM",
    "noteZh": "试验用",
    "noteEn": "for a test",
    "multipliers": [{"nameZh": "早晨", "nameEn": "Morning", "condition": "hour < 9", "percent": 150}],
}


async def test_a_rule_from_scratch_and_periods_that_cannot_be(
    desk: Desk, api: Api, services: Services, clock: ManualClock
) -> None:
    await desk.approved("draftKind", kind={**GOOD["draftKind"]["kind"], "code": "ropeway"})
    await desk.take("publishRule")

    async def refused(zh: str, en: str, code: str, **given: Any) -> None:
        before = await dump(services)
        told = [await desk.send("publishRule", language=language, **given) for language in ("zh", "en")]
        assert [refusal(answer) for answer in told] == [(code, zh), (code, en)]
        assert await dump(services) == before

    await desk.approved(rule=ROPEWAY_RULE)
    await refused(
        "生效期结束后 ropeway 将没有任何规则；如需停用请使用停用操作",
        "after the period ropeway would have no rule at all; retire the rule instead",
        "PERIOD_GAP",
        validTo=written(clock.now() + timedelta(days=9)),
    )
    planned = clock.now() + timedelta(days=9)
    await desk.take("publishRule", validFrom=written(planned))
    asked = (
        'query ($asOf: DateTime) { rules(kind: "ropeway", asOf: $asOf) { factor { numerator denominator } '
        "formula { family project { name } } multipliers { name percent } methodology { title scope } } }"
    )
    assert (await api.post(asked)).result == []
    assert (await api.post(asked, {"asOf": written(planned)})).result == [
        {
            "factor": ratio(40),
            "formula": {"family": "BASELINE_MINUS_PROJECT", "project": [{"name": "Power"}]},
            "multipliers": [{"name": "Morning", "percent": 150}],
            "methodology": {"title": "Ropeways", "scope": "for a test"},
        }
    ]
    await desk.approved(rule={"code": "R-ROPE1", "formula": flat(30)})
    await refused(
        "生效期与已计划的 R-ROPE1 v1 重叠",
        "the period covers the beginning of R-ROPE1 v1, which is planned",
        "PERIOD_OVERLAP",
    )
    await desk.take("publishRule", validFrom=written(planned))
    shown = (await api.post(asked, {"asOf": written(planned)})).result
    assert [rule["factor"] for rule in shown] == [ratio(30)]
