"""Vouchers as they are read: node(id:), a citizen's list, and what only the citizen sees of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from schemas.operations import read_operation
from schemas.relay import to_global_id
from tests.api.reward_documents import ALL, SECRETS, denials, everything, global_id
from tests.api.selling import Town

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

NODE = f"query ($id: ID!) {{ node(id: $id) {{ ... on Voucher {{ {ALL} {SECRETS} }} }} }}"
NODES = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
MISSING = to_global_id("Voucher", "vou_none")


@pytest.fixture
async def town(services: Services, token_for: Callable[..., str]) -> Town:
    """A town where alice has three thousand points."""
    made = await Town(services, token_for).open()
    await made.earn(3_000)
    return made


async def test_a_voucher_is_seen_by_its_citizen_its_merchant_and_staff(
    api: Api, town: Town, services: Services
) -> None:
    voucher = await town.redeem()
    before = await everything(town)
    seen = (await api.post(NODE, {"id": global_id(voucher)}, token=town.token("citizen"))).result
    assert (seen["id"], seen["status"], seen["shownCode"]["token"]) == (
        global_id(voucher),
        "HELD",
        town.shown(voucher),
    )
    assert len(seen["secret"]) == 44
    of_others = {**seen, "secret": None, "shownCode": None}
    insiders = ("citizen", "owner", "cashier", "verifier", "reviewer", "administrator")
    for who in insiders[1:]:
        assert (await api.post(NODE, {"id": global_id(voucher)}, token=town.token(who))).result == of_others
    for who in denials(*insiders):
        for given in (global_id(voucher), MISSING):
            answer = await api.post(NODE, {"id": given}, token=town.token(who))
            assert (who, answer.body) == (who, {"data": {"node": None}})
    # A merchant's login that is called like the citizen is somebody else.
    namesake = await api.post(NODE, {"id": global_id(voucher)}, token=town.token_for("merchant", "alice"))
    assert namesake.body == {"data": {"node": None}}
    assert await everything(town) == before


async def test_who_left_the_merchant_sees_its_vouchers_no_more(api: Api, town: Town, services: Services) -> None:
    ids = [global_id(await town.redeem()), MISSING, global_id(await town.redeem())]
    found = (await api.post(NODES, {"ids": ids}, token=town.token("cashier"))).result
    assert [node and node["id"] for node in found] == [ids[0], None, ids[2]]
    works = town.house.registered_by.removeprefix("merchant:")
    principal = services.tokens.read(town.token_for("merchant", works))
    await services.rewards.merchants.remove_member(principal, None, "xiaoli", key="remove-0001")
    assert (await api.post(NODES, {"ids": ids}, token=town.token("cashier"))).result == [None] * 3


async def test_a_citizens_vouchers_come_newest_first_with_their_state_now(
    api: Api, town: Town, clock: ManualClock
) -> None:
    made = []
    for items in (1, 2, 1):
        clock.advance(timedelta(seconds=1))
        made.append(await town.redeem(await town.offer(items=items)))
    await town.capture(made[1], items=1)
    clock.current = made[0].expires_at
    document = read_operation("Vouchers")
    page = (await api.post(document, {"first": 2}, token=town.token("citizen"))).result["vouchers"]
    nodes = [edge["node"] for edge in page["edges"]]
    # Over by time, whether or not the worker has been there.
    assert [(node["id"], node["status"], node["itemsLeft"]) for node in nodes] == [
        (global_id(made[2]), "EXPIRED", 0),
        (global_id(made[1]), "CAPTURED", 0),
    ]
    assert page["pageInfo"]["hasNextPage"] is True
    more = {"first": 2, "after": page["pageInfo"]["endCursor"]}
    rest = (await api.post(document, more, token=town.token("citizen"))).result["vouchers"]
    assert [edge["node"]["id"] for edge in rest["edges"]] == [global_id(made[0])]
    assert (await api.post(document, token=town.token("other citizen"))).result["vouchers"]["edges"] == []


async def test_the_phones_document_shows_the_code_of_now(api: Api, town: Town, clock: ManualClock) -> None:
    voucher = await town.redeem()
    document, given = read_operation("VoucherCode"), {"id": global_id(voucher)}
    first = (await api.post(document, given, token=town.token("citizen"))).result["shownCode"]
    clock.advance(timedelta(seconds=30))
    second = (await api.post(document, given, token=town.token("citizen"))).result["shownCode"]
    assert first["token"] != second["token"]
    assert second["token"] == town.shown(voucher)
