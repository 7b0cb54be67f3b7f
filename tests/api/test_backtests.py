"""backtestRule, cancelBacktest, and what administrators read and watch of back-tests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.actions.backtesting.exporting import to_csv
from backend.kernel.clock import local_date
from backend.kernel.errors import Language
from backend.kernel.ids import SHARD_COUNT, ShardNumber
from schemas.context import Context
from schemas.operations import read_operation
from schemas.schema import schema
from tests.conftest import dump
from tests.factories import ADMIN, bus_ride, citizen

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
REFUSAL = "... on Refusal { code message }"
START = f"""
mutation ($input: BacktestRuleInput!) {{
  backtestRule(input: $input) {{ __typename ... on Backtest {{ id state actor from to rule version }} {REFUSAL} }}
}}
"""
CANCEL = f"""
mutation ($input: CancelBacktestInput!) {{
  cancelBacktest(input: $input) {{ __typename ... on Backtest {{ id state }} {REFUSAL} }}
}}
"""
READ = read_operation("Backtest")
LIST = """
query ($first: Int, $after: String) {
  admin { backtests(first: $first, after: $after) { nodes { id state } pageInfo { hasNextPage endCursor } } }
}
"""


def asked(services: Services, key: str = "key-0001", **changes: Any) -> dict[str, Any]:
    """The input for a back-test of R-BUS2 v1 over yesterday and today."""
    today = local_date(services.clock.now(), services.programme.zone)
    span = {"from": str(today - timedelta(days=1)), "to": str(today + timedelta(days=1))}
    return {"input": {"idempotencyKey": key, "rule": "R-BUS2", "version": 1, **span, **changes}}


async def rides(services: Services, clock: ManualClock) -> None:
    """One settled ride of alice and one of bob, an hour ago."""
    for name in ("alice", "bob"):
        at = clock.now() - timedelta(hours=1)
        await services.actions.record(citizen(name), bus_ride(name, occurred_at=at), key=f"key-ride-{name}")
    await services.settling.settle(SHARDS)
    clock.advance(timedelta(seconds=1))


async def finish(services: Services) -> None:
    """Replay all that waits."""
    while await services.backtesting.replay_next():
        pass


async def test_an_administrator_back_tests_and_reads_the_result(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    await rides(services, clock)
    root = token_for("admin", "root")
    given = asked(services)
    begun = (await api.post(START, given, token=root)).result
    assert begun == {
        "__typename": "Backtest",
        "id": begun["id"],
        "state": "QUEUED",
        "actor": "staff:root",
        "from": given["input"]["from"],
        "to": given["input"]["to"],
        "rule": "R-BUS2",
        "version": 1,
    }
    assert (await api.post(START, given, token=root)).result == begun
    await finish(services)
    found = (await api.post(READ, {"id": begun["id"]}, token=root)).data["admin"]["backtest"]
    assert (found["state"], found["done"], found["parts"], found["attached"]) == ("DONE", 64, 64, False)
    result = found["result"]
    assert result["total"]["acts"] == result["total"]["creditedAfter"] == 2
    assert result["total"]["pointsBefore"] == result["total"]["pointsAfter"] > 0
    assert (result["unchanged"], result["pointsLiability"], result["sample"]) == (2, 0, [])
    assert result["remark"].startswith("Budgets that everybody draws on are replayed shard by shard")


async def test_differences_are_explained_in_the_readers_language(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    await rides(services, clock)
    root = token_for("admin", "root")
    given = asked(services, profile="shanghai-2026", rule=None, version=None)
    begun = (await api.post(START, given, token=root)).result
    await finish(services)
    for language, line in (
        ("en", "no conversion rule was in force when this happened"),
        ("zh", "该行为发生时没有生效的核算规则"),
    ):
        answer = await api.post(READ, {"id": begun["id"]}, token=root, language=language)
        result = answer.data["admin"]["backtest"]["result"]
        assert (result["losing"], len(result["mostLosing"]), len(result["sample"])) == (2, 2, 2)
        for difference in result["sample"]:
            assert (difference["before"]["status"], difference["after"]["status"]) == ("CREDITED", "REJECTED")
            assert len(difference["before"]["lines"]) > 2
            assert difference["after"]["lines"] == [line]
        # By a pseudonym, never by the citizen's id.
        assert {mover["pseudonym"] for mover in result["mostLosing"]}.isdisjoint({"alice", "bob"})


async def test_back_tests_are_listed_newest_first_and_cancelled(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    root = token_for("admin", "root")
    ids = []
    for number in range(3):
        ids.append((await api.post(START, asked(services, f"key-000{number}"), token=root)).result["id"])
        clock.advance(timedelta(seconds=1))
    page = (await api.post(LIST, {"first": 2}, token=root)).data["admin"]["backtests"]
    assert [node["id"] for node in page["nodes"]] == ids[:0:-1]
    assert page["pageInfo"]["hasNextPage"] is True
    rest = await api.post(LIST, {"first": 2, "after": page["pageInfo"]["endCursor"]}, token=root)
    assert rest.data["admin"]["backtests"]["nodes"] == [{"id": ids[0], "state": "QUEUED"}]
    ending = {"input": {"idempotencyKey": "key-0009", "backtest": ids[0]}}
    cancelled = (await api.post(CANCEL, ending, token=root)).result
    assert cancelled == {"__typename": "Backtest", "id": ids[0], "state": "CANCELLED"}
    await finish(services)
    again = {"input": {"idempotencyKey": "key-0010", "backtest": ids[1]}}
    assert (await api.post(CANCEL, again, token=root)).result == {
        "__typename": "BacktestEnded",
        "code": "BACKTEST_ENDED",
        "message": "the back-test is over (DONE)",
    }
    none = {"input": {"idempotencyKey": "key-0011", "backtest": "backtest_none"}}
    assert (await api.post(CANCEL, none, token=root)).result["code"] == "UNKNOWN_BACKTEST"


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"to": "2020-01-01"}, "BACKTEST_PERIOD", "no period to back-test over: it must end after it begins"),
        ({"to": "2999-01-01"}, "BACKTEST_PERIOD", "no period to back-test over: at most 366 days"),
        ({"version": 7}, "UNKNOWN_VERSION", "no version 7 of the rule R-BUS2 was published"),
        ({"rule": None, "version": None, "profile": "x"}, "UNKNOWN_PROFILE", "there is no profile x"),
        ({"rule": None, "version": None, "draft": "x"}, "UNKNOWN_DRAFT", "there is no rule draft x"),
        ({"idempotencyKey": "x"}, "INVALID_INPUT", "field idempotencyKey is invalid: 8–64 printable ASCII characters"),
    ],
)
async def test_a_refusal_says_why_and_changes_nothing(
    api: Api, services: Services, token_for: Callable[..., str], changes: dict[str, Any], code: str, message: str
) -> None:
    before = await dump(services)
    answer = await api.post(START, asked(services, **changes), token=token_for("admin", "root"))
    assert (answer.result["code"], answer.result["message"]) == (code, message)
    assert await dump(services) == before


@pytest.mark.parametrize(
    ("role", "subject"),
    [("citizen", "alice"), ("partner", "metro"), ("reviewer", "ben"), ("verifier", "eve"), ("merchant", "shop")],
)
async def test_only_administrators_back_test(
    api: Api, services: Services, token_for: Callable[..., str], role: str, subject: str
) -> None:
    begun = (await api.post(START, asked(services), token=token_for("admin", "root"))).result["id"]
    before = await dump(services)
    token = token_for(role, subject)
    ending = {"input": {"idempotencyKey": "key-0009", "backtest": begun}}
    for document, variables in (
        (START, asked(services, "key-0002")),
        (CANCEL, ending),
        (READ, {"id": begun}),
        (LIST, {}),
    ):
        assert (await api.post(document, variables, token=token)).code == "FORBIDDEN"
    assert await dump(services) == before


async def test_a_back_test_is_watched_until_it_is_over(services: Services, clock: ManualClock) -> None:
    await rides(services, clock)
    variables = asked(services)
    context = Context(services, ADMIN, Language.EN)
    begun = await schema.execute(START, variable_values=variables, context_value=context)
    assert begun.data is not None
    watched: Any = await schema.subscribe(
        read_operation("BacktestProgress"),
        variable_values={"id": begun.data["backtestRule"]["id"]},
        context_value=context,
    )
    seen = [(await anext(watched)).data["backtestProgress"]["state"]]
    await services.backtesting.replay_next()
    seen.append((await anext(watched)).data["backtestProgress"]["state"])
    await finish(services)
    seen += [news.data["backtestProgress"]["state"] async for news in watched]
    assert (seen[0], seen[1], seen[-1]) == ("QUEUED", "RUNNING", "DONE")


async def test_an_administrator_downloads_the_sums(
    api: Api, services: Services, clock: ManualClock, token_for: Callable[..., str]
) -> None:
    await rides(services, clock)
    root = token_for("admin", "root")
    begun = (await api.post(START, asked(services), token=root)).result["id"]

    async def fetch(name: str, token: str | None = root) -> tuple[int, str, bytes]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        response = await api.http.get(f"/exports/backtests/{name}", headers=headers)
        return response.status_code, response.headers["content-type"], response.content

    assert (await fetch(f"{begun}.csv"))[0] == 404
    await finish(services)
    result = (await services.backtesting.get(begun)).result
    assert result is not None
    assert await fetch(f"{begun}.csv") == (200, "text/csv; charset=utf-8", to_csv(result))
    status, media_type, content = await fetch(f"{begun}.parquet")
    assert (status, media_type, content[:4]) == (200, "application/vnd.apache.parquet", b"PAR1")
    for name, token, code in (
        (f"{begun}.xlsx", root, 404),
        ("backtest_none.csv", root, 404),
        (f"{begun}.csv", None, 401),
        (f"{begun}.csv", "no.token", 401),
        (f"{begun}.csv", token_for("reviewer", "ben"), 403),
        (f"{begun}.csv", token_for("citizen", "alice"), 403),
    ):
        assert (await fetch(name, token))[:2] == (code, "application/json")
