"""transferPoints and the mutations on families: who may, what is refused in which words, and what is not.

A denial or refusal leaves the database as it was. The programme of these tests lets points be given.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from backend.app import create_app
from backend.identity.families import Families
from backend.kernel.crypto import load_lookup_key
from backend.mongo.transactions import Transactions
from schemas.operations import read_operation
from tests.api.client import Api
from tests.api.documents import shown
from tests.api.point_documents import ALICE, BOB, DOCUMENTS, KEY, ask, make_family, refused
from tests.conftest import dump
from tests.factories import earning, replay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backend.runtime import Services

pytestmark = pytest.mark.anyio


@pytest.fixture
async def generous(services: Services) -> AsyncIterator[Api]:
    """The application of a programme in which points may be given within a family."""
    families = Families(
        database=services.database,
        transactions=Transactions(services.database),
        identity=services.identity,
        ledger=services.ledger,
        clock=services.clock,
        zone=services.programme.zone,
        lookup_key=load_lookup_key(services.settings.keys_dir / "lookup.key"),
        transferable=True,
    )
    app = create_app(dataclasses.replace(services, families=families))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tanhui.test") as http,
    ):
        yield Api(http)


async def test_a_family_is_founded_joined_shown_and_left(
    generous: Api, services: Services, token_for: Callable[..., str]
) -> None:
    alice, bob = token_for("citizen", "alice"), token_for("citizen", "bob")
    now = services.clock.now()
    founded = await ask(generous, "foundFamily", alice)
    assert founded.result == {"__typename": "Family", "members": [{"id": ALICE, "displayName": "王芳"}]}
    invited = (await ask(generous, "inviteToFamily", alice)).result
    assert (await ask(generous, "inviteToFamily", alice)).result == invited
    assert invited["expiresAt"] == shown(now + timedelta(hours=24))
    members = [{"id": ALICE, "displayName": "王芳"}, {"id": BOB, "displayName": "李伟"}]
    for _ in range(2):
        joined = await ask(generous, "joinFamily", bob, invitationCode=invited["invitationCode"])
        assert joined.result == {"__typename": "Family", "members": members}
    own = (await generous.post(read_operation("Family"), token=bob)).result
    assert own == {"id": BOB, "pointsAvailable": 0, "family": {"members": members}}
    for _ in range(2):
        assert (await ask(generous, "leaveFamily", bob)).result == {"__typename": "FamilyLeft", "leftAt": shown(now)}
    assert (await generous.post(read_operation("Family"), token=bob)).result["family"] is None


async def test_others_do_not_see_a_family(generous: Api, token_for: Callable[..., str]) -> None:
    await make_family(generous, token_for)
    document = "query ($id: ID!) { node(id: $id) { ... on Citizen { family { members { displayName } } } } }"
    names = {"family": {"members": [{"displayName": "王芳"}, {"displayName": "李伟"}]}}
    for role, subject, sees in (
        ("citizen", "alice", names),
        ("citizen", "bob", None),
        ("partner", "alice", None),
        ("merchant", "alice", None),
        ("admin", "root", names),
    ):
        assert (await generous.post(document, {"id": ALICE}, token=token_for(role, subject))).result == sees


async def test_points_are_given_once_and_shown_to_both(
    generous: Api, services: Services, token_for: Callable[..., str]
) -> None:
    alice, bob = token_for("citizen", "alice"), token_for("citizen", "bob")
    await make_family(generous, token_for)
    await services.ledger.post(earning(amount=100))
    given = {"points": "30", "message": "生日快乐"}
    first = (await ask(generous, "transferPoints", alice, **given)).result
    assert first.pop("transactionId").startswith("tx_")
    giver = {"id": ALICE, "pointsBalance": 70, "pointsAvailable": 70}
    assert first == {"__typename": "PointsTransfer", "citizen": giver}
    before = await dump(services)
    again = (await ask(generous, "transferPoints", alice, **given)).result
    assert (again["__typename"], again["citizen"]["pointsBalance"]) == ("PointsTransfer", 70)
    assert await dump(services) == before
    statement = "{ viewer { ... on Citizen { statement { nodes { kind change balance note transactionId } } } } }"
    (line,) = (await generous.post(statement, token=bob)).result["statement"]["nodes"]
    assert line.pop("transactionId") == again["transactionId"]
    assert line == {"kind": "TRANSFER", "change": 30, "balance": 30, "note": "生日快乐"}
    # A local id will do, too.
    back = await ask(generous, "transferPoints", bob, to="alice", points=10)
    assert back.result["citizen"] == {"id": BOB, "pointsBalance": 20, "pointsAvailable": 20}
    assert (await replay(services)).findings == []


GIFTS_REFUSED: list[tuple[str, dict[str, Any], tuple[str, str, str]]] = [
    ("stranger", {"to": "carol"}, ("NOT_IN_FAMILY", "对方与您不在同一个家庭组", "that citizen is not in your family")),
    (
        "more than there is",
        {"points": 101},
        ("INSUFFICIENT_FUNDS", "余额不足：需要 101，可用 100", "insufficient balance: 101 needed, 100 available"),
    ),
    (
        "nothing",
        {"points": 0},
        ("INVALID_INPUT", "字段 points 无效：1–1000000000000", "field points is invalid: 1–1000000000000"),
    ),
    (
        "as many as 64 bits hold",
        {"points": 2**63 - 1},
        ("INVALID_INPUT", "字段 points 无效：1–1000000000000", "field points is invalid: 1–1000000000000"),
    ),
    (
        "oneself",
        {"to": ALICE},
        ("INVALID_INPUT", "字段 to 无效：不能转给自己", "field to is invalid: somebody other than yourself"),
    ),
    (
        "another thing's id",
        {"to": "a/b"},
        (
            "INVALID_INPUT",
            "字段 to 无效：1–64 个字母、数字、点、横线或下划线",
            "field to is invalid: 1–64 letters, digits, dots, dashes and underscores",
        ),
    ),
    (
        "message of two lines",
        {"message": "a\nb"},
        (
            "INVALID_INPUT",
            "字段 message 无效：1–60 个字符，不含控制字符",
            "field message is invalid: 1–60 characters, none of them control characters",
        ),
    ),
    (
        "key of 7 characters",
        {"key": "1234567"},
        (
            "INVALID_INPUT",
            "字段 idempotencyKey 无效：8–64 个可打印 ASCII 字符",
            "field idempotencyKey is invalid: 8–64 printable ASCII characters",
        ),
    ),
    (
        "a key of another gift",
        {"key": "used-key"},
        (
            "IDEMPOTENCY_CONFLICT",
            "幂等键 used-key 已用于内容不同的请求",
            "idempotency key used-key was already used with another payload",
        ),
    ),
]


async def test_a_gift_is_refused_in_both_languages(
    generous: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await make_family(generous, token_for)
    await services.ledger.post(earning(amount=107))
    alice = token_for("citizen", "alice")
    await ask(generous, "transferPoints", alice, points=7, key="used-key")
    for _, given, expected in GIFTS_REFUSED:
        await refused(generous, services, "transferPoints", alice, expected, **given)


async def test_where_points_are_not_given_that_is_said(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await make_family(api, token_for)
    await services.ledger.post(earning(amount=100))
    expected = ("NOT_TRANSFERABLE", "本项目的积分不可转赠", "points cannot be given away in this programme")
    await refused(api, services, "transferPoints", token_for("citizen", "alice"), expected)


FULL = ("FAMILY_FULL", "家庭组最多 8 人，名额已满", "a family has at most 8 members, and this one is full")
NONE = ("NO_FAMILY", "您尚未加入家庭组", "you belong to no family")
IN_ONE = ("ALREADY_IN_FAMILY", "您已加入一个家庭组，请先退出", "you belong to a family already; leave it first")
NOT_A_CODE = ("INVITATION_INVALID", "邀请码无效、已使用或已过期", "the invitation code is wrong, used or expired")
NO_INVITATION = (
    "TOO_MANY_INVITATIONS",
    "每天最多生成 20 个邀请码",
    "at most 20 invitations may be made a day",
)
NO_TRY = ("TOO_MANY_TRIES", "每天最多尝试 20 次邀请码", "at most 20 invitation codes may be tried a day")


async def test_family_mutations_are_refused_in_both_languages(
    generous: Api, services: Services, token_for: Callable[..., str]
) -> None:
    alice, bob = token_for("citizen", "alice"), token_for("citizen", "bob")
    await refused(generous, services, "inviteToFamily", alice, NONE)
    await refused(generous, services, "leaveFamily", alice, NONE)
    await refused(generous, services, "joinFamily", alice, NOT_A_CODE)
    await ask(generous, "foundFamily", alice)
    await refused(generous, services, "foundFamily", alice, IN_ONE, key="key-0002")
    await refused(generous, services, "joinFamily", alice, IN_ONE, invitationCode="11111111")
    codes = [
        (await ask(generous, "inviteToFamily", alice, key=f"code-{n:04}")).result["invitationCode"] for n in range(20)
    ]
    await refused(generous, services, "inviteToFamily", alice, NO_INVITATION, key="code-0020")
    for number in range(7):
        guest = f"guest{number}"
        await services.identity.register_citizens({guest: guest})  # type: ignore[dict-item]
        await ask(generous, "joinFamily", token_for("citizen", guest), invitationCode=codes[number])
    await refused(generous, services, "inviteToFamily", alice, FULL, key="code-0021")
    await refused(generous, services, "joinFamily", bob, FULL, invitationCode=codes[-1])
    for _ in range(18):
        await ask(generous, "joinFamily", bob)
    await refused(generous, services, "joinFamily", bob, NO_TRY)
    conflict = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(generous, services, "joinFamily", token_for("citizen", "guest1"), conflict, invitationCode=codes[-1])


CITIZENS_ONLY = (
    "FORBIDDEN",
    "无权执行该操作：市民的家庭组与积分转赠",
    "not permitted: families and gifts are citizens'",
)
ADMINS_ONLY = ("FORBIDDEN", "无权执行该操作：调整积分", "not permitted: adjustPoints")
OTHERS = [
    ("partner", "metro"),
    ("merchant", "alice"),
    ("enterprise", "steelworks"),
    ("reviewer", "rita"),
    ("verifier", "vera"),
]


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
async def test_a_denial_names_its_reason_and_writes_nothing(
    name: str, generous: Api, services: Services, token_for: Callable[..., str]
) -> None:
    before = await dump(services)
    own = name == "adjustPoints"
    denied = [*OTHERS, ("citizen", "alice") if own else ("admin", "root")]
    code, zh, en = ADMINS_ONLY if own else CITIZENS_ONLY
    for who in denied:
        for language, message in (("zh", zh), ("en", en)):
            answer = await ask(generous, name, token_for(*who), language=language)
            assert answer.refusal == (code, message)
            assert answer.body["data"] is None
    for language, message in (("zh", "请先登录（没有令牌）"), ("en", "sign in first (no token)")):
        answer = await ask(generous, name, None, language=language)
        assert answer.refusal == ("UNAUTHENTICATED", message)
    assert await dump(services) == before
