"""node, nodes and action: opaque global ids; what is not the caller's answers like what does not exist."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from backend.app import create_app
from schemas.relay import from_global_id, to_global_id
from tests.api.client import Api
from tests.api.documents import RECORD, RECORD_MANY, batch, item, ride
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backend.actions.model import Action
    from backend.kernel.ids import ActionId
    from backend.runtime import Services

pytestmark = pytest.mark.anyio

NODE = "query ($id: ID!) { node(id: $id) { __typename id ... on Action { ref } ... on Citizen { displayName } } }"
NODES = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
ACTION = "query ($id: ID!) { action(id: $id) { id ref } }"
MISSING = to_global_id("Action", "act_00000000000000000000000000000000")
NO_IDS = [
    "",
    "alice",
    "Action:act_1",
    "\x00",
    "行为",
    "////",
    "QWN0aW9u",
    to_global_id("", "x"),
    to_global_id("Action", ""),
    to_global_id("Action", "\x00"),
    to_global_id("Rule", "R-MET1"),
    to_global_id("action", "x"),
    "_w",
    "A" * 100_000,
]


async def record(api: Api, token: str, ref: str = "ride-1") -> str:
    """The global id of a newly recorded ride."""
    return str((await api.post(RECORD, ride(ref), token=token)).result["id"])


async def test_a_global_id_finds_its_thing_and_says_nothing(api: Api, token_for: Callable[..., str]) -> None:
    token = token_for("citizen", "alice")
    identity = await record(api, token)
    assert (await api.post(NODE, {"id": identity}, token=token)).result == {
        "__typename": "Action",
        "id": identity,
        "ref": "ride-1",
    }
    alice = to_global_id("Citizen", "alice")
    assert (await api.post(NODE, {"id": alice}, token=token)).result == {
        "__typename": "Citizen",
        "id": alice,
        "displayName": "王芳",
    }
    assert all(text not in identity + alice for text in ("Action", "Citizen", "act_", "alice", ":", "="))


async def test_an_action_is_found_by_its_global_and_its_own_id(api: Api, token_for: Callable[..., str]) -> None:
    token = token_for("citizen", "alice")
    identity = await record(api, token)
    parts = from_global_id(identity)
    assert parts is not None
    assert parts[1].startswith("act_")
    for given in (identity, parts[1]):
        assert (await api.post(ACTION, {"id": given}, token=token)).result == {"id": identity, "ref": "ride-1"}


async def test_another_citizens_action_answers_like_one_that_does_not_exist(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    identity = await record(api, token_for("citizen", "alice"))
    before = await dump(services)
    strangers: list[str | None] = [
        None,
        *(token_for(role, "bob") for role in ("citizen", "partner", "merchant", "enterprise")),
        token_for("partner", "alice"),
    ]
    for token in strangers:
        for document, name in ((NODE, "node"), (ACTION, "action")):
            foreign, missing = [await api.post(document, {"id": i}, token=token) for i in (identity, MISSING)]
            assert (foreign.status, foreign.body) == (200, {"data": {name: None}})
            assert (missing.status, missing.body) == (foreign.status, foreign.body)
    for role in ("admin", "reviewer", "verifier"):
        assert (await api.post(ACTION, {"id": identity}, token=token_for(role, "s"))).result["id"] == identity
    assert await dump(services) == before


async def test_another_citizen_answers_like_one_that_does_not_exist(api: Api, token_for: Callable[..., str]) -> None:
    for token in (None, token_for("citizen", "bob"), token_for("partner", "alice")):
        for name in ("alice", "nobody"):
            answer = await api.post(NODE, {"id": to_global_id("Citizen", name)}, token=token)
            assert answer.body == {"data": {"node": None}}


async def test_what_is_no_global_id_finds_nothing(api: Api, token_for: Callable[..., str]) -> None:
    token = token_for("admin", "root")
    for text in NO_IDS:
        for document in (NODE, ACTION):
            assert (await api.post(document, {"id": text}, token=token)).result is None
    assert (await api.post(NODES, {"ids": NO_IDS}, token=token)).result == [None] * len(NO_IDS)


class Counted:
    """The actions' service, counting how often it is asked for actions by id."""

    def __init__(self, services: Services) -> None:
        self._actions = services.actions
        self.asked: list[int] = []

    async def find_actions(self, ids: Iterable[ActionId]) -> dict[ActionId, Action]:
        """Pass the question on."""
        wanted = list(ids)
        self.asked.append(len(wanted))
        return await self._actions.find_actions(wanted)


async def test_a_hundred_nodes_come_in_their_order_from_one_question(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    acts = [item(f"ride-{number}") for number in range(98)]
    results = (await api.post(RECORD_MANY, batch(*acts), token=token)).result["results"]
    ids = [MISSING, *(entry["id"] for entry in reversed(results)), to_global_id("Citizen", "alice")]
    counted: Any = Counted(services)
    app = create_app(dataclasses.replace(services, actions=counted))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tanhui.test") as http,
    ):
        found = (await Api(http).post(NODES, {"ids": ids}, token=token)).result
    assert [node and node["id"] for node in found] == [None, *ids[1:]]
    assert counted.asked == [99]


async def test_more_than_a_hundred_nodes_are_refused(api: Api, token_for: Callable[..., str]) -> None:
    answer = await api.post(NODES, {"ids": [MISSING] * 101}, token=token_for("citizen", "alice"))
    assert answer.refusal == ("INVALID_INPUT", "field ids is invalid: at most 100")
    assert answer.body["data"] is None
    assert (await api.post(NODES, {"ids": []})).result == []
