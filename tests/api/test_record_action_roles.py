"""recordAction: who may record what for whom, and what their word is worth; a denial changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import CitizenId
from schemas.relay import to_global_id
from tests.api.conftest import CARD
from tests.api.documents import RECORD, RECORD_DETAILS, ride
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

BOB = to_global_id("Citizen", "bob")
ANOTHER = ("FORBIDDEN", "无权执行该操作：他人的账户", "not permitted: another citizen's account")
NO_ROLE = ("FORBIDDEN", "无权执行该操作：记录低碳行为", "not permitted: recordAction")
NOT_BOUND = (
    "NOT_BOUND",
    "该卡号、账号或市民未与 metro-afc 绑定",
    "this card, account or citizen is not bound to metro-afc",
)


def source(name: str) -> tuple[str, str, str]:
    """Code and messages where that source is not the caller's."""
    return "FORBIDDEN", f"无权执行该操作：数据来源 {name}", f"not permitted: source {name}"


# Who (role, subject), what differs from a good ride → code, message in Chinese, message in English.
DENIALS: list[tuple[str, tuple[str, str], dict[str, Any], tuple[str, str, str]]] = [
    ("citizen for another", ("citizen", "alice"), {"citizen": "bob"}, ANOTHER),
    ("citizen for another by global id", ("citizen", "alice"), {"citizen": BOB}, ANOTHER),
    ("citizen by a card", ("citizen", "alice"), {"externalId": CARD}, ANOTHER),
    ("citizen from a partner's source", ("citizen", "alice"), {"source": "metro-afc"}, source("metro-afc")),
    (
        "partner from another's source",
        ("partner", "metro"),
        {"source": "bike-share", "citizen": "alice"},
        source("bike-share"),
    ),
    ("partner from nobody's source", ("partner", "metro"), {"source": "app", "citizen": "alice"}, source("app")),
    (
        "unknown partner",
        ("partner", "ghost"),
        {"source": "metro-afc", "externalId": CARD},
        source("metro-afc"),
    ),
    ("merchant", ("merchant", "bakery"), {}, NO_ROLE),
    ("merchant for a citizen", ("merchant", "bakery"), {"citizen": "alice"}, NO_ROLE),
    ("enterprise", ("enterprise", "steelworks"), {}, NO_ROLE),
    ("reviewer", ("reviewer", "rita"), {"citizen": "alice"}, NO_ROLE),
    ("verifier", ("verifier", "vera"), {"citizen": "alice"}, NO_ROLE),
    ("merchant named as the citizen", ("merchant", "alice"), {}, NO_ROLE),
]
UNBOUND: list[tuple[str, dict[str, Any]]] = [
    ("unknown card", {"externalId": "3104-9999"}),
    ("card of another source", {"externalId": "bike-user-1"}),
    ("unbound citizen", {"citizen": "bob"}),
    ("unbound citizen by global id", {"citizen": BOB}),
    ("card and another citizen", {"externalId": CARD, "citizen": "bob"}),
    ("nobody", {}),
]


@pytest.mark.parametrize(
    ("who", "changes", "expected"), [case[1:] for case in DENIALS], ids=[case[0] for case in DENIALS]
)
async def test_a_denial_names_its_reason_and_writes_nothing(
    who: tuple[str, str],
    changes: dict[str, Any],
    expected: tuple[str, str, str],
    api: Api,
    services: Services,
    token_for: Callable[..., str],
) -> None:
    before = await dump(services)
    code, zh, en = expected
    for language, message in (("zh", zh), ("en", en)):
        answer = await api.post(RECORD, ride(**changes), token=token_for(*who), language=language)
        assert answer.status == 200
        assert answer.refusal == (code, message)
        assert answer.body["data"] is None
    assert await dump(services) == before


@pytest.mark.parametrize("changes", [case[1] for case in UNBOUND], ids=[case[0] for case in UNBOUND])
async def test_a_partner_records_only_for_who_is_bound_to_its_source(
    changes: dict[str, Any], api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token, before = token_for("partner", "metro"), await dump(services)
    code, zh, en = NOT_BOUND
    for language, message in (("zh", zh), ("en", en)):
        answer = await api.post(RECORD, ride(source="metro-afc", **changes), token=token, language=language)
        assert (answer.result["code"], answer.result["message"]) == (code, message)
    assert await dump(services) == before


async def test_nobody_records_without_a_token(api: Api, services: Services) -> None:
    before = await dump(services)
    for language, message in (("zh", "请先登录（没有令牌）"), ("en", "sign in first (no token)")):
        answer = await api.post(RECORD, ride(), language=language)
        assert answer.refusal == ("UNAUTHENTICATED", message)
    assert await dump(services) == before


@pytest.mark.parametrize(
    ("who", "changes", "owner"),
    [
        (("citizen", "alice"), {}, "alice"),
        (("citizen", "alice"), {"citizen": "alice"}, "alice"),
        (("citizen", "alice"), {"citizen": to_global_id("Citizen", "alice")}, "alice"),
        (("partner", "metro"), {"source": "metro-afc", "externalId": CARD}, "alice"),
        (("partner", "metro"), {"source": "metro-afc", "citizen": "alice"}, "alice"),
        (("partner", "metro"), {"source": "metro-afc", "externalId": CARD, "citizen": "alice"}, "alice"),
        (("admin", "root"), {"citizen": "bob"}, "bob"),
        (("admin", "root"), {"source": "metro-afc", "citizen": BOB}, "bob"),
        (("admin", "root"), {"source": "metro-afc", "externalId": CARD}, "alice"),
    ],
)
async def test_who_may_record_records_for_the_right_citizen(
    who: tuple[str, str],
    changes: dict[str, Any],
    owner: str,
    api: Api,
    services: Services,
    token_for: Callable[..., str],
) -> None:
    answer = await api.post(RECORD, ride(**changes), token=token_for(*who))
    assert answer.result["status"] == "PENDING"
    (action,) = await services.actions.list_actions(CitizenId(owner), limit=10)
    role, subject = who
    assert action.recorded_by == f"{'staff' if role == 'admin' else role}:{subject}"
    assert len((await dump(services))["actions"]) == 1


async def test_an_administrator_records_for_nobody_in_particular_in_vain(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    before = await dump(services)
    answer = await api.post(RECORD, ride(), token=token_for("admin", "root"))
    assert answer.result["code"] == "NOT_BOUND"
    assert await dump(services) == before


@pytest.mark.parametrize(
    ("who", "asked", "given"),
    [
        ("citizen", None, "DECLARED"),
        ("citizen", "DECLARED", "DECLARED"),
        ("citizen", "DEVICE", "DEVICE"),
        ("citizen", "OPERATOR", "DEVICE"),
        ("partner", None, "OPERATOR"),
        ("partner", "DECLARED", "DECLARED"),
        ("partner", "DEVICE", "DEVICE"),
        ("partner", "OPERATOR", "OPERATOR"),
        ("admin", None, "OPERATOR"),
        ("admin", "DEVICE", "DEVICE"),
        ("admin", "OPERATOR", "OPERATOR"),
    ],
)
async def test_evidence_never_exceeds_what_the_callers_word_is_worth(
    who: str, asked: str | None, given: str, api: Api, token_for: Callable[..., str]
) -> None:
    subject = {"citizen": "alice", "partner": "metro", "admin": "root"}[who]
    changes = {} if who == "citizen" else {"source": "metro-afc", "citizen": "alice"}
    evidence = {"tier": asked, "reference": "pedometer"} if asked else None
    answer = await api.post(RECORD_DETAILS, ride(evidence=evidence, **changes), token=token_for(who, subject))
    assert answer.result["evidenceTier"] == given
