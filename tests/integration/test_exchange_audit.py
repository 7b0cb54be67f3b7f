"""The auditor of the exchange: silent about all that is right, and about each forged field it says which."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.market.exchange import candle_invariants
from tests.conftest import LEDGER_WATCH
from tests.integration.conftest import ALL_SHARDS
from tests.integration.trading_floor import IOC, KG, OPEN, TradingFloor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

AN_HOUR = timedelta(hours=1)
CANCELLING = {"kind": "CANCEL", "at": OPEN, "by_staff": False, "price_fen": None, "quantity_g": None}
# Which orders of the floor below.
AMENDED, CANCELLED, FILLED = {"price_fen": 5_860}, {"status": "CANCELLED"}, {"status": "FILLED"}
RESTING, ASKED, NEW = {"side": "SELL", "status": "OPEN"}, {"price_fen": 5_900}, {"status": "PENDING"}


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> TradingFloor:
    """Trades in two minutes, and an order in each standing: new, resting, amended, filled, cancelled."""
    opened = await TradingFloor(services, clock).open()
    await opened.give_credits("alice", 100 * KG)
    for name in ("bob", "carol", "@steelworks"):
        await opened.give_fen(name, 100_000)
    await opened.sell("alice", 50, 6_000)
    await opened.match()
    await opened.buy("@steelworks", 10, 6_000)
    await opened.match()
    opened.wait(minutes=1)
    await opened.buy("bob", 7, 6_010)
    await opened.buy("carol", 5, 5_900)
    [given_up] = await opened.match(await opened.buy("carol", 5, 5_800))
    await opened.cancel(given_up)
    [amended] = await opened.match(await opened.buy("carol", 5, 5_850))
    await opened.amend(amended, 5_860)
    await opened.match()
    await opened.buy("carol", 1, 5_810)
    return opened


async def change(
    floor: TradingFloor, collection: str, query: dict[str, Any], changes: dict[str, Any]
) -> dict[str, Any]:
    """Forge fields of one document, whatever its collection allows; the document as it was."""
    raw = floor.services.database.raw[collection]
    document = await raw.find_one(query)
    assert document is not None, query
    assert any(document.get(name) != value for name, value in changes.items()), "nothing is forged"
    await raw.update_one({"_id": document["_id"]}, {"$set": changes}, bypass_document_validation=True)
    return document


async def test_nothing_is_found_where_nothing_was_forged(floor: TradingFloor) -> None:
    assert await floor.findings() == []
    statuses = await floor.services.database.raw["market_orders"].distinct("status")
    assert sorted(statuses) == ["CANCELLED", "FILLED", "OPEN", "PENDING"]


ORDERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "limit of one filled": (FILLED, {"price_fen": Int64(6_001)}),
    "limit of one amended": (AMENDED, {"price_fen": Int64(5_861)}),
    "limit of one resting": (RESTING, {"price_fen": Int64(6_001)}),
    "limit of one cancelled": (CANCELLED, {"price_fen": Int64(5_801)}),
    "quantity of one cancelled": (CANCELLED, {"quantity_g": Int64(6_000)}),
    "instrument": (FILLED, {"instrument": "credit:none"}),
    "owner of one filled": (FILLED, {"owner": "citizen:mallory", "placed_by": "citizen:mallory"}),
    "owner of one cancelled": (CANCELLED, {"owner": "citizen:mallory", "placed_by": "citizen:mallory"}),
    "owner of one new": (NEW, {"owner": "citizen:mallory", "placed_by": "citizen:mallory"}),
    "who placed it": (RESTING, {"placed_by": "citizen:mallory"}),
    "side": (CANCELLED, {"side": "SELL"}),
    "kind": (RESTING, {"kind": "MARKET"}),
    "time in force": (RESTING, {"time_in_force": "GTD"}),
    "end": (RESTING, {"good_until": OPEN + AN_HOUR}),
    "end of its hold": (CANCELLED, {"hold_until": OPEN + AN_HOUR}),
    "when it was placed": (RESTING, {"created_at": OPEN + AN_HOUR}),
    "maker's rate": (FILLED, {"maker_bps": Int64(1)}),
    "taker's rate": (FILLED, {"taker_bps": Int64(51)}),
    "sum of fees": (FILLED, {"fee_numerator": Int64(3_001)}),
    "fee": (FILLED, {"fee_fen": Int64(2)}),
    "new, though it rests": (RESTING, {"status": "PENDING"}),
    "resting, though it is new": (NEW, {"status": "OPEN"}),
    "resting without a place": (RESTING, {"sequence": Int64(0)}),
    "queued for nothing": (RESTING, {"queued_at": OPEN}),
    "asked, and not queued": (RESTING, {"command": CANCELLING, "commands": Int64(1)}),
    "asked, and not counted": (ASKED, {"command": CANCELLING, "queued_at": OPEN + AN_HOUR}),
    "queued before it was placed": (NEW, {"queued_at": OPEN}),
    "count of commands": (CANCELLED, {"commands": Int64(0)}),
    "another hold": (RESTING, {"holds": Int64(2)}),
    "an older hold": (AMENDED, {"holds": Int64(1)}),
}


@pytest.mark.parametrize(("query", "changes"), ORDERS.values(), ids=ORDERS)
async def test_a_forged_order_is_found(floor: TradingFloor, query: dict[str, Any], changes: dict[str, Any]) -> None:
    forged = await change(floor, "market_orders", query, changes)
    found = await floor.findings()
    assert any(finding.startswith(f"order {forged['_id']}: ") for finding in found), found


async def test_an_order_that_is_missing_is_found_even_without_a_trade(floor: TradingFloor) -> None:
    raw = floor.services.database.raw["market_orders"]
    [gone] = await raw.find(CANCELLED).to_list()
    await raw.delete_one({"_id": gone["_id"]})
    assert await floor.findings() == [
        f"order {gone['_id']}: says of its first hold what others do not: they are +1 beside it"
    ]


async def test_trades_without_an_instrument_and_with_forged_takers_are_found(floor: TradingFloor) -> None:
    [first, *_] = await floor.trades()
    raw = floor.services.database.raw["market_trades"]
    [kept] = await raw.find({"_id": first.id}).to_list()
    for changes in ({"taker_side": "SELL"}, {"taker_side": None}, {"instrument": "credit:none"}, {"number": Int64(3)}):
        await raw.update_one({"_id": first.id}, {"$set": changes}, bypass_document_validation=True)
        assert await floor.findings() != [], changes
        await raw.replace_one({"_id": first.id}, kept)
    [order] = await floor.services.database.find("market_orders", RESTING, limit=1)
    await change(floor, "market_orders", RESTING, {"sequence": Int64(99)})
    assert f"trade {first.id}: says BUY took, and SELL came later" in await floor.findings()
    await floor.services.database.raw["market_orders"].replace_one({"_id": order["_id"]}, order)
    assert await floor.findings() == []
    await raw.delete_one({"_id": first.id})
    found = await floor.findings()
    assert any(finding.endswith("is no sound number 1") for finding in found), found


async def test_a_trade_beyond_a_limit_is_found_by_what_was_sealed(floor: TradingFloor) -> None:
    """Both the order and its hold would have to be forged, and holds are sealed."""
    [trade, *_] = await floor.trades()
    raw = floor.services.database.raw["ledger_transactions"]
    [hold] = await raw.find({"cause.order": trade.buy_order, "kind": "HOLD", "copy_of": None}).to_list()
    forged = {"$set": {"cause.price_fen": "5999"}}
    await raw.update_one({"_id": hold["_id"]}, forged, bypass_document_validation=True)
    LEDGER_WATCH.strays.clear()
    assert f"trade {trade.id}: is above the 5999 fen that its buyer bid" in await floor.findings()


INSTRUMENTS: dict[str, dict[str, Any]] = {
    "shard": {"shard": Int64(63)},
    "last price": {"last_fen": Int64(6_001)},
    "when it last traded": {"last_at": OPEN},
    "trades": {"trades": Int64(3)},
    "sequences": {"sequence": Int64(99)},
}


@pytest.mark.parametrize("changes", INSTRUMENTS.values(), ids=INSTRUMENTS)
async def test_a_forged_instrument_is_found(floor: TradingFloor, changes: dict[str, Any]) -> None:
    forged = await change(floor, "market_instruments", {}, changes)
    assert [finding.partition(":")[0] for finding in await floor.findings()] == [
        f"instrument {forged['_id'].partition(':')[0]}"
    ]


async def test_a_missing_instrument_is_found(floor: TradingFloor) -> None:
    await floor.services.database.raw["market_instruments"].delete_many({})
    found = await floor.findings()
    assert sum("which is no instrument" in finding for finding in found) == 7 + 2


def candle_forgeries() -> Iterator[dict[str, Any]]:
    """Each field of a candle."""
    for name in ("open_fen", "high_fen", "low_fen", "close_fen", "volume_g", "value_fen", "trades"):
        yield {name: Int64(12_345)}
    yield {"instrument": "credit:none"}
    yield {"start": OPEN - AN_HOUR}


@pytest.mark.parametrize("interval", ["MINUTE", "DAY"])
async def test_candles_are_what_trades_make_of_them(floor: TradingFloor, interval: str) -> None:
    raw = floor.services.database.raw["market_candles"]
    for changes in candle_forgeries():
        kept = await change(floor, "market_candles", {"interval": interval}, changes)
        found = await floor.findings()
        assert [finding.rpartition(": ")[2] for finding in sorted(found)] in (
            ["is stored so and not told by trades", "is told by trades and not stored so"],
            ["is told by trades and not stored so", "is stored so and not told by trades"],
        ), changes
        await raw.replace_one({"_id": kept["_id"]}, kept)
    await raw.delete_one({"interval": interval})
    [finding] = await floor.findings()
    assert finding.endswith("is told by trades and not stored so")


async def test_candles_are_folded_in_bounded_memory(floor: TradingFloor, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two candles at once, minutes and days of three days of trade are still the same."""
    monkeypatch.setattr(candle_invariants, "OPEN_AT_ONCE", 2)
    for _ in range(3):
        floor.wait(days=1)
        for _ in range(3):
            floor.wait(minutes=1)
            await floor.buy("bob", 1, 6_000, time_in_force=IOC)
            await floor.match()
    assert len(await floor.trades()) == 2 + 9
    assert await floor.findings() == []


UNREADABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "an unknown command": ("market_orders", {"last_command": {"kind": "WISH", "at": OPEN, "outcome": "DONE"}}),
    "a time that is none": ("market_orders", {"created_at": "yesterday"}),
    "a quantity that is none": ("market_orders", {"quantity_g": "many"}),
    "no owner": ("market_orders", {"owner": None}),
    "serials that are none": ("market_trades", {"serials": "all"}),
    "no price": ("market_trades", {"price_fen": None}),
    "a day that is none": ("market_instruments", {"day": "Monday"}),
    "an interval that is none": ("market_candles", {"interval": "YEAR"}),
}


@pytest.mark.parametrize(("collection", "changes"), UNREADABLE.values(), ids=UNREADABLE)
async def test_what_cannot_be_read_is_a_finding_that_names_it(
    floor: TradingFloor, collection: str, changes: dict[str, Any]
) -> None:
    forged = await change(floor, collection, {}, changes)
    found = await floor.findings()
    assert any(finding.startswith(f"{collection} {forged['_id']}: ") for finding in found), found


@pytest.mark.parametrize("days", [91, 95])
async def test_a_hold_that_expired_while_matchers_were_away_is_no_finding(floor: TradingFloor, days: int) -> None:
    """The order ended long ago; the book frees its hold when it next turns the page, or by its own job."""
    floor.wait(days=days)
    await floor.match()
    assert await floor.services.database.raw["market_orders"].count_documents({"open": True}) == 0
    assert await floor.findings() == []
    await floor.services.expiry.expire_due(ALL_SHARDS)
    assert await floor.findings() == []


async def test_a_hold_that_an_order_left_behind_is_found(floor: TradingFloor) -> None:
    [resting] = await floor.services.database.find("market_orders", RESTING, limit=1)
    ended = {
        "status": "CANCELLED",
        "reason": "BY_OWNER",
        "open": False,
        "held": Int64(0),
        "remaining_g": Int64(0),
    }
    await change(floor, "market_orders", {"_id": resting["_id"]}, ended)
    assert f"hold {resting['hold']}: is for the exchange and of no open order" in await floor.findings()
