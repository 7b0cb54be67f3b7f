"""actions and statement: walked page by page, forwards and backwards, nothing is missing and nothing comes twice."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from schemas.relay import to_global_id
from tests.api.documents import RECORD_MANY, batch, item, written
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
ARGUMENTS = "$first: Int, $after: String, $last: Int, $before: String"
PASSED = "first: $first, after: $after, last: $last, before: $before"
PAGE = "edges { cursor node { %s } } nodes { %s } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"


def list_document(field: str, item_field: str, extra: str = "") -> str:
    """The document that reads one page of alice's list."""
    selection = PAGE.replace("%s", item_field)
    return f"query ({ARGUMENTS}) {{ viewer {{ ... on Citizen {{ {field}({extra}{PASSED}) {{ {selection} }} }} }} }}"


ACTIONS = list_document("actions", "ref")
POINTS = list_document("statement", "sequence")
RECOGNISED = list_document("statement", "sequence", "asset: CO2E_RECOGNISED, ")
QUANTIFIED = list_document("statement", "sequence", "asset: CO2E_QUANTIFIED, ")
LISTS = {"actions": ACTIONS, "points": POINTS, "recognised": RECOGNISED}


async def live(api: Api, services: Services, token: str) -> None:
    """Six days of four rides each, those of a day at the same moment; all of them earn."""
    now = services.clock.now()
    rides = [
        item(f"ride-{day}-{number}", occurredAt=written(now - timedelta(days=day, hours=1)))
        for day in range(6)
        for number in range(4)
    ]
    await api.post(RECORD_MANY, batch(*rides), token=token)
    assert await services.settling.settle(ALL_SHARDS) == 24


async def page(api: Api, document: str, token: str, **arguments: Any) -> dict[str, Any]:
    """One page."""
    viewer = (await api.post(document, arguments, token=token)).result
    (found,) = viewer.values()
    assert found["nodes"] == [edge["node"] for edge in found["edges"]]
    cursors = [edge["cursor"] for edge in found["edges"]] or [None]
    assert (found["pageInfo"]["startCursor"], found["pageInfo"]["endCursor"]) == (cursors[0], cursors[-1])
    return dict(found)


def values(found: dict[str, Any]) -> list[Any]:
    """What the page shows, in its order."""
    return [value for node in found["nodes"] for value in node.values()]


@pytest.mark.parametrize("name", LISTS)
async def test_walks_in_both_directions_meet_every_item_once(
    name: str, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token, document = token_for("citizen", "alice"), LISTS[name]
    await live(api, services, token)
    whole = values(await page(api, document, token, first=100))
    assert len(set(whole)) == len(whole) == 24
    for size in (1, 5, 7, 8, 24, 100):
        forwards: list[Any] = []
        after, more = None, True
        while more:
            found = await page(api, document, token, first=size, after=after)
            assert found["pageInfo"]["hasPreviousPage"] is (after is not None)
            forwards += values(found)
            after, more = found["pageInfo"]["endCursor"], found["pageInfo"]["hasNextPage"]
        assert forwards == whole
        backwards: list[Any] = []
        before, more = None, True
        while more:
            found = await page(api, document, token, last=size, before=before)
            assert found["pageInfo"]["hasNextPage"] is (before is not None)
            backwards = values(found) + backwards
            before, more = found["pageInfo"]["startCursor"], found["pageInfo"]["hasPreviousPage"]
        assert backwards == whole


@pytest.mark.parametrize("name", LISTS)
async def test_a_page_lies_strictly_between_its_two_cursors(
    name: str, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token, document = token_for("citizen", "alice"), LISTS[name]
    await live(api, services, token)
    edges = (await page(api, document, token, first=100))["edges"]
    whole = [value for edge in edges for value in edge["node"].values()]
    between = {"after": edges[3]["cursor"], "before": edges[10]["cursor"]}
    assert values(await page(api, document, token, first=100, **between)) == whole[4:10]
    assert values(await page(api, document, token, first=2, **between)) == whole[4:6]
    assert values(await page(api, document, token, last=2, **between)) == whole[8:10]
    assert values(await page(api, document, token, first=3, before=edges[10]["cursor"])) == whole[:3]
    assert values(await page(api, document, token, last=3, after=edges[3]["cursor"])) == whole[-3:]
    assert values(await page(api, document, token, first=0)) == []
    assert values(await page(api, document, token)) == whole[:20]


async def test_lists_run_from_the_newest_to_the_oldest(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    await live(api, services, token)
    days = [ref.split("-")[1] for ref in values(await page(api, ACTIONS, token, first=100))]
    assert days == sorted(days)
    assert values(await page(api, POINTS, token, first=100)) == list(range(24, 0, -1))
    assert values(await page(api, QUANTIFIED, token, first=100)) == []


async def test_a_statement_adds_up_line_by_line(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    token = token_for("citizen", "alice")
    await live(api, services, token)
    document = """{ viewer { ... on Citizen { pointsBalance statement(first: 100) {
      nodes { kind asset change balance transactionId actionId } } } } }"""
    viewer = (await api.post(document, token=token)).result
    lines = viewer["statement"]["nodes"][::-1]
    assert [line["balance"] for line in lines] == [40 * (number + 1) for number in range(24)]
    assert {(line["kind"], line["asset"], line["change"]) for line in lines} == {("EARN", "POINTS", 40)}
    assert len({line["transactionId"] for line in lines}) == len({line["actionId"] for line in lines}) == 24
    assert viewer["pointsBalance"] == lines[-1]["balance"]


async def test_an_item_recorded_meanwhile_does_not_disturb_a_walk(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    await live(api, services, token)
    whole = values(await page(api, ACTIONS, token, first=100))
    first = await page(api, ACTIONS, token, first=10)
    await api.post(RECORD_MANY, batch(item("meanwhile"), key="meanwhile"), token=token)
    rest = await page(api, ACTIONS, token, first=100, after=first["pageInfo"]["endCursor"])
    assert values(first) + values(rest) == whole


def cursor(text: str) -> str:
    """The text, dressed as a cursor."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


NOT_A_CURSOR = "field after is invalid: not a cursor of this list"
GARBAGE = [
    "",
    "garbage",
    "%",
    "行程",
    "\x00",
    "A" * 10_000,
    cursor("x"),
    cursor("-1"),
    cursor("1e3"),
    cursor("１"),
    "_w",
]
ACTION_GARBAGE = [
    *GARBAGE,
    cursor("7"),
    cursor("2026-11-21T08:00:00|act_1"),
    cursor("2026-02-30T08:00:00+00:00|act_1"),
    cursor("0001-01-01T00:00:00+14:00|act_1"),
    cursor("9999-12-31T23:59:59-14:00|act_1"),
]
STATEMENT_GARBAGE = [*GARBAGE, cursor("2026-11-21T08:00:00+00:00|act_1"), cursor("9" * 19)]


@pytest.mark.parametrize(
    ("document", "garbage"), [(ACTIONS, ACTION_GARBAGE), (POINTS, STATEMENT_GARBAGE)], ids=["actions", "statement"]
)
async def test_what_is_no_cursor_is_refused(
    document: str, garbage: list[str], api: Api, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    for text in garbage:
        answer = await api.post(document, {"first": 1, "after": text}, token=token)
        assert (text, *answer.refusal) == (text, "INVALID_INPUT", NOT_A_CURSOR)
        assert answer.body["data"] == {"viewer": None}
        answer = await api.post(document, {"last": 1, "before": text}, token=token)
        assert answer.refusal == ("INVALID_INPUT", NOT_A_CURSOR.replace("after", "before"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 101}, "field first is invalid: 0–100"),
        ({"first": -1}, "field first is invalid: 0–100"),
        ({"last": 101}, "field last is invalid: 0–100"),
        ({"last": -1}, "field last is invalid: 0–100"),
        ({"first": 2**31 - 1}, "field first is invalid: 0–100"),
        ({"first": 1, "last": 1}, "field first is invalid: give first or last, not both"),
    ],
)
async def test_a_page_has_a_sensible_size(
    arguments: dict[str, Any], message: str, api: Api, token_for: Callable[..., str]
) -> None:
    for document in (ACTIONS, POINTS):
        answer = await api.post(document, arguments, token=token_for("citizen", "alice"))
        assert answer.refusal == ("INVALID_INPUT", message)


async def test_staff_walk_a_citizens_lists_and_citizens_only_their_own(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    await live(api, services, token_for("citizen", "alice"))
    before = await dump(services)
    document = """query ($id: ID!) { node(id: $id) { ... on Citizen {
      actions(first: 100) { nodes { ref } } statement(first: 100) { nodes { sequence } } } } }"""
    asked = {"id": to_global_id("Citizen", "alice")}
    found = (await api.post(document, asked, token=token_for("reviewer", "rita"))).result
    assert (len(found["actions"]["nodes"]), len(found["statement"]["nodes"])) == (24, 24)
    assert (await api.post(document, asked, token=token_for("citizen", "bob"))).result is None
    assert values(await page(api, ACTIONS, token_for("citizen", "bob"), first=100)) == []
    assert await dump(services) == before
