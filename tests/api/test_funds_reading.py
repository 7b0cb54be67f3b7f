"""What owners and staff read of money, and what nobody else does."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from backend.market.funds.documents import PAYOUTS
from backend.market.funds.model import FundAccount
from schemas.relay import to_global_id
from tests.integration.banking import firm, open_bank

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api
    from tests.integration.banking import Bank

    Token = Callable[..., str]

pytestmark = pytest.mark.anyio
ALICE, FAY = ("citizen", "alice"), ("finance", "fay")


@pytest.fixture
async def bank(services: Services) -> Bank:
    """The bank's desk."""
    return await open_bank(services)


MONEY = """query ($id: ID!) { node(id: $id) { ... on Citizen { money { balanceFen availableFen heldFen
  statement(first: 2) { nodes { kind change balance held note } pageInfo { hasNextPage } }
  payouts { nodes { id fen stage payee { number } fullPayee { number } settledBy decidedBy } } } } } }"""


async def test_a_citizen_and_staff_see_the_money_and_nobody_else(api: Api, bank: Bank, token_for: Token) -> None:
    await bank.deposited()
    await bank.paid(fen=1_000)
    payout = await bank.requested(fen=500)
    given = {"id": to_global_id("Citizen", "alice")}
    money = (await api.post(MONEY, given, token=token_for(*ALICE))).result["money"]
    assert {name: money[name] for name in ("balanceFen", "availableFen", "heldFen")} == {
        "balanceFen": 9_000,
        "availableFen": 8_500,
        "heldFen": 500,
    }
    assert [line["kind"] for line in money["statement"]["nodes"]] == ["HOLD", "POST"]
    assert money["statement"]["pageInfo"]["hasNextPage"] is True
    newest, older = money["payouts"]["nodes"]
    assert newest == {
        "id": to_global_id("Payout", payout.id),
        "fen": 500,
        "stage": "REQUESTED",
        "payee": {"number": "****7890"},
        "fullPayee": None,
        "settledBy": None,
        "decidedBy": None,
    }
    assert (older["stage"], older["settledBy"]) == ("PAID", None)
    seen = (await api.post(MONEY, given, token=token_for(*FAY))).result["money"]["payouts"]["nodes"]
    assert [one["fullPayee"] for one in seen] == [{"number": "6222021234567890"}] * 2
    assert (seen[1]["settledBy"], seen[1]["decidedBy"]) == ("staff:fay", "staff:fred")
    for role in ("admin", "reviewer", "verifier"):
        shown = (await api.post(MONEY, given, token=token_for(role, "x"))).result["money"]["payouts"]["nodes"]
        assert [one["fullPayee"] for one in shown] == [None, None]
    for who in (("citizen", "bob"), ("enterprise", "steelworks"), ("merchant", "chen"), ("partner", "metro")):
        assert (await api.post(MONEY, given, token=token_for(*who))).result is None


async def test_a_payout_that_is_over_shows_so_before_anybody_marks_it(
    api: Api, bank: Bank, token_for: Token, clock: ManualClock
) -> None:
    await bank.deposited()
    payout = await bank.requested()
    clock.current = payout.expires_at
    document = "{ viewer { ... on Citizen { money { payouts { nodes { stage } } } } } }"
    shown = (await api.post(document, token=token_for("citizen", "alice"))).result
    assert shown == {"money": {"payouts": {"nodes": [{"stage": "LAPSED"}]}}}


LISTED = """query ($deposits: DepositState, $payouts: PayoutState) { admin {
  deposits(stage: $deposits) { nodes { stage fen enterprise } }
  payouts(stage: $payouts) { nodes { stage fen enterprise citizen } } } }"""


async def test_staff_list_deposits_and_payouts_by_stage(
    api: Api, bank: Bank, token_for: Token, clock: ManualClock
) -> None:
    enterprise = await bank.approved()
    steel = to_global_id("Enterprise", enterprise)
    await bank.deposited(fen=5_000)
    clock.advance(timedelta(seconds=1))
    await bank.proposed(bank.order(FundAccount(enterprise=enterprise), 700))
    clock.advance(timedelta(seconds=1))
    await bank.deposited(FundAccount(enterprise=enterprise), 900)
    clock.advance(timedelta(seconds=1))
    await bank.requested(fen=100)
    clock.advance(timedelta(seconds=1))
    await bank.requested(firm(enterprise), 200)
    token = token_for("reviewer", "ray")
    both = (await api.post(LISTED, {"deposits": "PROPOSED", "payouts": "REQUESTED"}, token=token)).result
    assert both["deposits"]["nodes"] == [{"stage": "PROPOSED", "fen": 700, "enterprise": steel}]
    assert both["payouts"]["nodes"] == [
        {"stage": "REQUESTED", "fen": 200, "enterprise": steel, "citizen": None},
        {"stage": "REQUESTED", "fen": 100, "enterprise": None, "citizen": to_global_id("Citizen", "alice")},
    ]
    everything = (await api.post(LISTED, {}, token=token)).result
    assert [one["fen"] for one in everything["deposits"]["nodes"]] == [900, 700, 5_000]
    assert (await api.post(LISTED, {"payouts": "PAID"}, token=token)).result["payouts"]["nodes"] == []
    assert (await api.post(LISTED, {}, token=token_for("enterprise", enterprise))).code == "FORBIDDEN"


async def test_a_payee_that_cannot_be_read_is_null_and_everything_else_is_shown(
    api: Api, bank: Bank, token_for: Token
) -> None:
    await bank.deposited()
    payout = await bank.requested()
    change = {"$set": {"sealed": "xx"}}
    assert await bank.services.database.update_one(PAYOUTS.name, {"_id": payout.id}, change)
    listing = "{ admin { payouts { nodes { id payee { number } fullPayee { number } } } } }"
    shown = (await api.post(listing, {}, token=token_for(*FAY))).result["payouts"]["nodes"]
    assert shown == [
        {"id": to_global_id("Payout", payout.id), "payee": {"number": "****7890"}, "fullPayee": None},
    ]
