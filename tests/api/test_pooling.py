"""authorisePooling, withdrawPooling, withdrawContribution, and what a citizen reads of pooling."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.market.pooling.model import WORDINGS
from tests.api.batch_documents import CONTRIBUTION, POOLING, SUCCESSES, send, send_as_anybody_but, send_refused
from tests.api.documents import shown
from tests.conftest import dump
from tests.integration.batching import Floor

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio
KILO = 1_000_000
MINE = f"{{ viewer {{ ... on Citizen {{ pooling {{ {POOLING} }} contributions {{ nodes {{ {CONTRIBUTION} }} }} }} }} }}"
OTHERS = f"query ($id: ID!) {{ node(id: $id) {{ ... on Citizen {{ pooling {{ {POOLING} }} }} }} }}"


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open()


async def test_a_citizen_authorises_changes_and_withdraws(
    api: Api, floor: Floor, token_for: Callable[..., str]
) -> None:
    alice, began = token_for("citizen", "alice"), floor.clock.now()
    nothing = (await api.post(MINE, token=alice)).result
    assert nothing["pooling"] == {
        "authorised": False,
        "scenarios": None,
        "benefit": None,
        "since": None,
        "wording": WORDINGS[1].en,
        "history": {"nodes": []},
    }
    first = (await send(api, floor, "authorisePooling", alice)).result
    version = {
        "scenarios": ["TRANSIT", "CYCLING"],
        "benefit": "POINTS",
        "since": shown(began),
        "until": None,
        "wordingVersion": 1,
        "wording": WORDINGS[1].en,
    }
    assert first == {
        "__typename": "Pooling",
        "authorised": True,
        "scenarios": ["TRANSIT", "CYCLING"],
        "benefit": "POINTS",
        "since": shown(began),
        "wording": WORDINGS[1].en,
        "history": {"nodes": [version]},
    }
    before = await dump(floor.services)
    assert (await send(api, floor, "authorisePooling", alice)).result == first
    assert await dump(floor.services) == before
    floor.clock.advance(timedelta(minutes=1))
    again = {"idempotencyKey": "authorise-0002", "scenarios": None, "benefit": "FEN"}
    second = (await send(api, floor, "authorisePooling", alice, **again)).result
    assert (second["authorised"], second["scenarios"], second["benefit"]) == (True, None, "FEN")
    assert [one["until"] for one in second["history"]["nodes"]] == [None, shown(began + timedelta(minutes=1))]
    floor.clock.advance(timedelta(minutes=1))
    chinese = (await send(api, floor, "withdrawPooling", alice, language="zh-CN")).result
    assert (chinese["authorised"], chinese["since"], chinese["wording"]) == (False, None, WORDINGS[1].zh)
    assert chinese["history"]["nodes"][0]["until"] == shown(began + timedelta(minutes=2))


async def test_what_cannot_be_authorised_or_withdrawn(api: Api, floor: Floor, token_for: Callable[..., str]) -> None:
    alice = token_for("citizen", "alice")
    refused = await send_refused(api, floor, "authorisePooling", alice, scenarios=[])
    assert (refused["code"], refused["field"]) == ("INVALID_INPUT", "scenarios")
    refused = await send_refused(api, floor, "authorisePooling", alice, idempotencyKey="short")
    assert (refused["code"], refused["field"]) == ("INVALID_INPUT", "idempotencyKey")
    refused = await send_refused(api, floor, "withdrawPooling", alice)
    assert (refused["code"], refused["message"]) == (
        "NOT_AUTHORISED",
        "you have no authorisation to pool in force",
    )
    await send(api, floor, "authorisePooling", alice)
    refused = await send_refused(api, floor, "authorisePooling", alice, benefit="FEN")
    assert refused["code"] == "IDEMPOTENCY_CONFLICT"
    await send(api, floor, "withdrawPooling", alice)
    refused = await send_refused(api, floor, "withdrawPooling", alice, idempotencyKey="withdraw-0002")
    assert refused["code"] == "NOT_AUTHORISED"


async def test_a_contribution_and_its_withdrawal(api: Api, floor: Floor, token_for: Callable[..., str]) -> None:
    await floor.agree("alice")
    await floor.rides("alice", 6, 20)
    batch = await floor.gathered()
    alice, bob = token_for("citizen", "alice"), token_for("citizen", "bob")
    [given] = (await api.post(MINE, token=alice)).result["contributions"]["nodes"]
    assert (given["stage"], given["benefit"], given["acts"], given["quantifiedMg"]) == ("GIVEN", "FEN", 2, 26 * KILO)
    assert (given["poolMg"], given["ownMg"], given["poolG"], given["ownG"]) == (10 * KILO, 16 * KILO, 0, 0)
    assert (given["deductedMg"], given["residualMg"], given["poolSerials"]) == (None, None, None)
    assert given["batch"] == {"batch": batch.code, "stage": "GATHERED", "opener": None}
    refused = await send_refused(api, floor, "withdrawContribution", bob, batch.code)
    assert (refused["code"], refused["message"]) == ("NO_CONTRIBUTION", "you have nothing in that batch")
    refused = await send_refused(api, floor, "withdrawContribution", alice, "another")
    assert refused["code"] == "UNKNOWN_BATCH"
    withdrawn = (await send(api, floor, "withdrawContribution", alice, batch.code)).result
    assert withdrawn == {"__typename": "Contribution", **given, "stage": "WITHDRAWN"}
    before = await dump(floor.services)
    assert (await send(api, floor, "withdrawContribution", alice, batch.code)).result == withdrawn
    assert await dump(floor.services) == before
    assert await floor.quantified("alice") == [26 * KILO]
    assert await floor.audit() == []


async def test_what_is_verified_or_on_its_way_back_is_not_withdrawn(
    api: Api, floor: Floor, token_for: Callable[..., str]
) -> None:
    await floor.agree("alice")
    await floor.rides("alice", 999, 6)
    first = await floor.gathered()
    alice = token_for("citizen", "alice")
    await floor.verified(first.code)
    refused = await send_refused(api, floor, "withdrawContribution", alice, first.code)
    assert (refused["code"], refused["message"]) == (
        "CONTRIBUTION_BOUND",
        "the batch is verified; nothing of it can be given back any more",
    )
    await floor.ride("alice", 3, 150)
    second = await floor.gathered()
    await send(api, floor, "cancelBatch", token_for("admin", "ann"), second.code)
    refused = await send_refused(api, floor, "withdrawContribution", alice, second.code)
    assert (refused["code"], refused["message"]) == ("BATCH_STAGE", "the batch is CANCELLING, so this cannot be done")


@pytest.mark.parametrize("name", ["authorisePooling", "withdrawPooling", "withdrawContribution"])
async def test_only_citizens_decide(api: Api, floor: Floor, token_for: Callable[..., str], name: str) -> None:
    assert name in SUCCESSES
    await send_as_anybody_but(api, floor, token_for, name, "none", {"citizen", "other citizen"})


async def test_only_the_citizen_and_staff_see_what_was_authorised(
    api: Api, floor: Floor, token_for: Callable[..., str]
) -> None:
    await floor.agree("alice")
    alice = (await api.post("{ viewer { ... on Citizen { id } } }", token=token_for("citizen", "alice"))).result["id"]
    seen = await api.post(OTHERS, {"id": alice}, token=token_for("verifier", "vera"))
    assert seen.result["pooling"]["authorised"] is True
    assert (await api.post(OTHERS, {"id": alice}, token=token_for("citizen", "bob"))).result is None
