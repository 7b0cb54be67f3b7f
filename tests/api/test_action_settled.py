"""actionSettled over a real websocket: phones learn at once what became of their citizen's acts, and only of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from schemas.operations import read_operation
from tests.api.documents import RECORD, ROOM, nested, ride, wide
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api
    from tests.api.sockets import Server

pytestmark = pytest.mark.anyio

ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
SETTLED = read_operation("ActionSettled")


async def test_a_phone_learns_what_its_act_earned(
    server: Server, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    async with server.phone() as phone:
        await phone.greet(token)
        await phone.ask(SETTLED)
        await server.until_heard("alice", 1)
        recorded = (await api.post(RECORD, ride(), token=token)).result
        assert await services.settling.settle(ALL_SHARDS) == 1
        assert await phone.receive() == {
            "id": "1",
            "type": "next",
            "payload": {
                "data": {
                    "actionSettled": {
                        "id": recorded["id"],
                        "kind": "bus_ride",
                        "status": "CREDITED",
                        "reductionMg": 40_000,
                        "points": 40,
                        "reasonCode": None,
                        "reason": None,
                        "rule": {"code": "R-BUS2", "version": 1},
                    }
                }
            },
        }
        await phone.send("complete", id="1")
        await server.until_heard("alice", 0)


async def test_each_phone_learns_of_its_own_citizens_acts_only(
    server: Server, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    tokens = {name: token_for("citizen", name) for name in ("alice", "bob")}
    async with server.phone() as first, server.phone() as second, server.phone() as bobs:
        for phone, name in ((first, "alice"), (second, "alice"), (bobs, "bob")):
            await phone.greet(tokens[name])
            await phone.ask("subscription { actionSettled { ref status } }")
        await server.until_heard("alice", 2)
        await server.until_heard("bob", 1)
        await api.post(RECORD, ride("of-alice"), token=tokens["alice"])
        await services.settling.settle(ALL_SHARDS)
        for phone in (first, second):
            message = await phone.receive()
            assert message["payload"]["data"]["actionSettled"] == {"ref": "of-alice", "status": "CREDITED"}
        # Bob's phone has heard nothing: the next thing it hears is the answer to its own ping.
        await bobs.send("ping")
        assert (await bobs.receive())["type"] == "pong"
        await api.post(RECORD, ride("of-bob"), token=tokens["bob"])
        await services.settling.settle(ALL_SHARDS)
        assert (await bobs.receive())["payload"]["data"]["actionSettled"]["ref"] == "of-bob"
        for phone in (first, second):
            await phone.send("ping")
            assert (await phone.receive())["type"] == "pong"
    await server.until_heard("alice", 0)
    await server.until_heard("bob", 0)


async def test_every_act_of_one_settling_arrives_with_its_reason(
    server: Server, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    async with server.phone(headers={"accept-language": "en"}) as phone:
        await phone.greet(token)
        await phone.ask("subscription { actionSettled { ref status reason } }")
        await server.until_heard("alice", 1)
        for number in range(6):
            await api.post(RECORD, ride(f"ride-{number}"), token=token)
        await services.settling.settle(ALL_SHARDS)
        heard = [(await phone.receive())["payload"]["data"]["actionSettled"] for _ in range(6)]
    assert {event["ref"] for event in heard} == {f"ride-{number}" for number in range(6)}
    outcomes = sorted((event["status"], event["reason"]) for event in heard if event["status"] == "REJECTED")
    assert outcomes == [("REJECTED", "the daily limit is used up")] * 2


async def test_the_token_may_come_with_the_handshake(
    server: Server, services: Services, token_for: Callable[..., str]
) -> None:
    headers = {"authorization": f"Bearer {token_for('citizen', 'alice')}"}
    async with server.phone(headers=headers) as phone:
        await phone.greet()
        await phone.ask("{ viewer { kind } }")
        assert (await phone.receive())["payload"] == {"data": {"viewer": {"kind": "CITIZEN"}}}
    async with server.phone(headers={"authorization": "Bearer garbage"}) as phone:
        await phone.send("connection_init")
        assert await phone.close_code() == 4403


@pytest.mark.parametrize("authorization", ["Bearer garbage", "Basic x", "", 7, ["Bearer x"], {"a": "b"}])
async def test_a_bad_token_closes_the_socket_with_4403(authorization: object, server: Server) -> None:
    async with server.phone() as phone:
        await phone.send("connection_init", payload={"authorization": authorization})
        assert await phone.close_code() == 4403


@pytest.mark.parametrize(
    ("who", "code", "message"),
    [
        (None, "UNAUTHENTICATED", "sign in first (no token)"),
        (("partner", "metro"), "FORBIDDEN", "not permitted: actionSettled"),
        (("admin", "root"), "FORBIDDEN", "not permitted: actionSettled"),
    ],
)
async def test_who_is_no_citizen_hears_nothing(
    who: tuple[str, str] | None,
    code: str,
    message: str,
    server: Server,
    services: Services,
    token_for: Callable[..., str],
) -> None:
    before = await dump(services)
    async with server.phone(headers={"accept-language": "en"}) as phone:
        await phone.greet(token_for(*who) if who else None)
        await phone.ask(SETTLED)
        answer = await phone.receive()
        (error,) = answer["payload"] if answer["type"] == "error" else answer["payload"]["errors"]
        assert (error["message"], error["extensions"]) == (message, {"code": code})
    assert await dump(services) == before


async def test_another_protocol_is_refused(server: Server) -> None:
    async with server.phone(protocol="graphql-ws") as phone:
        assert await phone.close_code() == 4406


async def test_nothing_is_answered_before_the_greeting(server: Server) -> None:
    async with server.phone() as phone:
        await phone.ask("{ programme { code } }")
        assert await phone.close_code() == 4401


async def test_limits_hold_over_the_websocket_too(server: Server, token_for: Callable[..., str]) -> None:
    aliases = f"{{ {' '.join(f'a{number}: programme {{ code }}' for number in range(400))} }}"
    async with server.phone() as phone:
        await phone.greet(token_for("citizen", "alice"))
        for name, (document, problem) in enumerate(
            [
                (nested(ROOM + 1), "the document is nested deeper than 12 levels"),
                (wide(99), "the answer may have more than 10000 fields; ask for less at once"),
                (aliases, "Syntax Error: Document contains more than 2000 tokens. Parsing aborted."),
            ]
        ):
            await phone.ask(document, name=str(name))
            answer = await phone.receive()
            assert (answer["type"], answer["payload"][0]["message"]) == ("error", problem)
        await phone.ask(nested(ROOM), name="last")
        assert (await phone.receive())["payload"] == {"data": {"programme": {"code": "zhenjiang"}}}
