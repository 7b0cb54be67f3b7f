"""What a citizen sees of points that are held, expire or are owed, and of a period: exact, bounded, one's own."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from backend.kernel.ids import CitizenId
from backend.ledger.model import POINTS, Posting, Transaction, TransactionKind, account_of, citizen_owner
from backend.mongo.transactions import Transactions
from schemas.relay import to_global_id
from tests.api.documents import shown
from tests.factories import earning, transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

FIGURES = """query ($within: Int = 30) { viewer { ... on Citizen {
  pointsBalance pointsAvailable pointsHeld pointsOwed expiringPoints(within: $within)
  pointLots { expiresAt points } } } }"""
PERIOD = """query ($since: DateTime!, $until: DateTime!) { viewer { ... on Citizen {
  periodStatement(since: $since, until: $until) {
    since until opening closing movements { kind change balance held note } csv json } } } }"""
AT = (
    "query ($at: DateTime!, $asset: Asset = POINTS) { viewer { ... on Citizen { balanceAt(at: $at, asset: $asset) } } }"
)
# In China, where the programme is, this is half past eight.
MORNING = datetime(2026, 11, 21, 0, 30, tzinfo=UTC)


def hold(key: str, amount: int, until: datetime) -> Transaction:
    """Points of alice's reserved for a shop."""
    owner = citizen_owner(CitizenId("alice"))
    posting = Posting(
        from_account=account_of(owner, POINTS),
        to_account=account_of("merchant:bakery", POINTS),  # type: ignore[arg-type]
        asset=POINTS,
        amount=amount,
    )
    return Transaction(key=key, kind=TransactionKind.HOLD, postings=(posting,), expires_at=until)


async def figures(api: Api, token: str, within: int = 30) -> dict[str, Any]:
    """The citizen's figures."""
    answer: dict[str, Any] = (await api.post(FIGURES, {"within": within}, token=token)).result
    return answer


async def test_points_are_shown_by_when_they_end(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    def token() -> str:
        return token_for("citizen", "alice")

    nothing = {"pointsBalance": 0, "pointsAvailable": 0, "pointsHeld": 0, "pointsOwed": 0, "expiringPoints": 0}
    clock.current = MORNING
    assert await figures(api, token()) == {**nothing, "pointLots": []}
    await services.ledger.post(earning("earn-1", amount=100))
    clock.current = datetime(2026, 12, 1, tzinfo=UTC)
    await services.ledger.post(earning("earn-2", amount=40))
    # Usable through November 2028, that is until December begins in China.
    first, second = datetime(2028, 11, 30, 16, tzinfo=UTC), datetime(2028, 12, 31, 16, tzinfo=UTC)
    lots = [{"expiresAt": shown(first), "points": 100}, {"expiresAt": shown(second), "points": 40}]
    assert await figures(api, token()) == {
        **nothing,
        "pointsBalance": 140,
        "pointsAvailable": 140,
        "pointLots": lots,
    }
    await services.ledger.post(hold("hold-0001", 30, clock.now() + timedelta(days=1_000)))
    clock.current = first - timedelta(days=7)
    lots[0]["points"] = 70
    assert await figures(api, token(), 7) == {
        "pointsBalance": 140,
        "pointsAvailable": 110,
        "pointsHeld": 30,
        "pointsOwed": 0,
        "expiringPoints": 70,
        "pointLots": lots,
    }
    assert (await figures(api, token(), 6))["expiringPoints"] == 0
    assert (await figures(api, token(), 38))["expiringPoints"] == 110
    # What has expired does not count, whether or not the nightly run has been.
    clock.current = first
    assert await figures(api, token(), 7) == {
        "pointsBalance": 70,
        "pointsAvailable": 40,
        "pointsHeld": 30,
        "pointsOwed": 0,
        "expiringPoints": 0,
        "pointLots": lots[1:],
    }


@pytest.mark.parametrize("within", [0, -1, 3_661, 2**31 - 1])
async def test_days_ahead_are_bounded(within: int, api: Api, token_for: Callable[..., str]) -> None:
    answer = await api.post(FIGURES, {"within": within}, token=token_for("citizen", "alice"))
    assert answer.refusal == ("INVALID_INPUT", "field within is invalid: 1–3660")


async def tell_a_story(services: Services, clock: ManualClock) -> list[datetime]:
    """Four movements of alice's points, an hour apart; their times."""
    clock.current = MORNING
    moments = []
    adjusted = Transaction(
        key="adjust-1",
        kind=TransactionKind.ADJUST,
        postings=earning(amount=5).postings,
        cause={"staff": "root", "reason": "=1+1"},
    )
    for step in (earning(), hold("hold-0001", 30, MORNING + timedelta(days=9)), transfer(), adjusted):
        await services.ledger.post(step)
        moments.append(clock.now())
        clock.advance(timedelta(hours=1))
    return moments


async def test_a_balance_at_a_moment_is_what_happened_before_it(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    moments = await tell_a_story(services, clock)
    token = token_for("citizen", "alice")
    for number, (before, after) in enumerate(((0, 100), (100, 100), (100, 90), (90, 95))):
        for moment, balance in ((moments[number], before), (moments[number] + timedelta(milliseconds=1), after)):
            assert (await api.post(AT, {"at": shown(moment)}, token=token)).result == {"balanceAt": balance}
    assert (await api.post(AT, {"at": "1970-01-01T00:00:00Z"}, token=token)).result == {"balanceAt": 0}
    given = {"at": "9999-12-31T23:59:59Z", "asset": "CO2E_RECOGNISED"}
    assert (await api.post(AT, given, token=token)).result == {"balanceAt": 0}


async def test_a_period_has_its_movements_between_two_balances(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    moments = await tell_a_story(services, clock)
    token = token_for("citizen", "alice")
    period = {"since": shown(moments[1]), "until": shown(clock.now())}
    found = (await api.post(PERIOD, period, token=token)).result["periodStatement"]
    movements = [
        {"kind": "HOLD", "change": 0, "balance": 100, "held": 30, "note": None},
        {"kind": "TRANSFER", "change": -10, "balance": 90, "held": 30, "note": None},
        {"kind": "ADJUST", "change": 5, "balance": 95, "held": 30, "note": "=1+1"},
    ]
    assert {name: found[name] for name in ("since", "until", "opening", "closing", "movements")} == {
        **period,
        "opening": 100,
        "closing": 95,
        "movements": movements,
    }
    told = orjson.loads(found["json"])
    assert (told["version"], told["owner"], told["asset"]) == (1, "citizen:alice", "points")
    assert (told["since"], told["opening"], told["closing"]) == ("2026-11-21T01:30:00Z", 100, 95)
    assert [(line["change"], line["balance"]) for line in told["movements"]] == [(0, 100), (-10, 90), (5, 95)]

    english = found["csv"]
    assert english.startswith(
        "\ufeffsequence,time (Asia/Shanghai),kind,change (points),balance,held thereof,owed,note,"
    )
    rows = list(csv.reader(io.StringIO(english.removeprefix("\ufeff"), newline="")))
    assert {len(row) for row in rows} == {10}
    assert [row[:8] for row in rows[1:]] == [
        ["", "2026-11-21 09:30:00", "opening balance", "", "100", "", "", ""],
        ["2", "2026-11-21 09:30:00", "held", "0", "100", "30", "0", ""],
        ["3", "2026-11-21 10:30:00", "transfer", "-10", "90", "30", "0", ""],
        ["4", "2026-11-21 11:30:00", "adjusted by staff", "5", "95", "30", "0", "'=1+1"],
        ["", "2026-11-21 12:30:00", "closing balance", "", "95", "", "", ""],
    ]
    chinese = (await api.post(PERIOD, period, token=token, language="zh")).result["periodStatement"]["csv"]
    assert chinese.startswith(
        "\ufeff序号,时间 (Asia/Shanghai),类型,变动 (积分),余额,其中冻结,欠额,备注,交易编号,更正的交易\r\n"
    )
    assert "期初余额" in chinese
    assert chinese.count("\r\n") == chinese.count("\n") == 6

    empty = {"since": shown(clock.now()), "until": shown(clock.now() + timedelta(days=366))}
    later = (await api.post(PERIOD, empty, token=token)).result["periodStatement"]
    assert (later["opening"], later["closing"], later["movements"]) == (95, 95, [])


async def test_a_period_is_bounded(api: Api, token_for: Callable[..., str]) -> None:
    token = token_for("citizen", "alice")
    for length in (timedelta(), timedelta(milliseconds=-1), timedelta(days=366, milliseconds=1)):
        given = {"since": shown(MORNING), "until": shown(MORNING + length)}
        answer = await api.post(PERIOD, given, token=token)
        assert answer.refusal == ("INVALID_INPUT", "field until is invalid: after since, by 366 days at most")
        answer = await api.post(PERIOD, given, token=token, language="zh")
        assert answer.refusal == ("INVALID_INPUT", "字段 until 无效：应晚于 since，且不超过 366 天")


async def test_a_period_with_too_many_movements_is_refused(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    clock.current = MORNING
    token = token_for("citizen", "alice")
    given = {"since": shown(MORNING), "until": shown(MORNING + timedelta(days=1))}
    posted = 0
    for size in (1_000, 1_000, 1):
        batch = [earning(f"earn-{posted + number:05}", amount=1) for number in range(size)]
        await post_together(services, batch)
        posted += size
        answer = await api.post(PERIOD, given, token=token)
        if posted <= 2_000:
            assert (len(answer.result["periodStatement"]["movements"]), posted) == (posted, posted)
    assert answer.refusal == ("STATEMENT_TOO_LONG", "the period has more than 2000 movements; choose a shorter one")


async def post_together(services: Services, transactions: list[Transaction]) -> None:
    """Post them in one MongoDB transaction."""

    async def body(tx: Any) -> None:
        await services.ledger.post_within(tx, transactions, at=services.clock.now())

    await Transactions(services.database).run(body)


async def test_figures_are_seen_by_their_citizen_and_staff(api: Api, token_for: Callable[..., str]) -> None:
    document = """query ($id: ID!) { node(id: $id) { ... on Citizen { pointsAvailable pointsHeld pointsOwed
      expiringPoints(within: 1) pointLots { points } balanceAt(at: "2026-01-01T00:00:00Z")
      periodStatement(since: "2026-01-01T00:00:00Z", until: "2026-02-01T00:00:00Z") { opening csv } } } }"""
    staff = [("admin", "root"), ("reviewer", "rita"), ("verifier", "vera")]
    others = [("citizen", "bob"), ("partner", "alice"), ("merchant", "alice"), ("enterprise", "alice")]
    for who in (("citizen", "alice"), *staff, *others):
        answer = await api.post(document, {"id": to_global_id("Citizen", "alice")}, token=token_for(*who))
        assert (answer.result is None) is (who in others)


async def test_statements_are_dear(api: Api, token_for: Callable[..., str]) -> None:
    def asking(times: int) -> str:
        field = 'periodStatement(since: "2026-01-01T00:00:00Z", until: "2026-02-01T00:00:00Z") { csv }'
        return f"{{ viewer {{ ... on Citizen {{ {' '.join(f's{number}: {field}' for number in range(times))} }} }} }}"

    token = token_for("citizen", "alice")
    assert len((await api.post(asking(9), token=token)).result) == 9
    assert (await api.post(asking(10), token=token)).code == "COST_LIMIT"
