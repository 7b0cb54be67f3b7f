"""neutralityEstimate and neutraliseEvent over GraphQL: success, each refusal, each role; a denial changes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schemas.relay import to_global_id
from tests.api.selling import PEOPLE
from tests.conftest import dump
from tests.factories import ADMIN
from tests.floor import CREDIT
from tests.integration.trading_floor import REFERENCE_FEN, TradingFloor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

ESTIMATE = """
query ($input: NeutralityEstimateInput!) {
  neutralityEstimate(input: $input) {
    factorsVersion quantityG totalG
    lines { origin people totalKm quantityG factor { mode per mgPerKm document publisher year note } }
  }
}
"""
NEUTRALISE = """
mutation ($input: NeutraliseEventInput!) {
  neutraliseEvent(input: $input) {
    ... on Neutralisation {
      id stage totalG toBuyG boughtG failure credit maxPriceFen orderId event { nameZh nameEn date place }
      beneficiary { name } estimate { totalG } certificate { number quantityG purpose beneficiary { name } }
    }
    ... on Refusal { code message }
  }
}
"""
NODE = "query ($id: ID!) { node(id: $id) { ... on Neutralisation { stage certificate { quantityG } } } }"
METRO = {"mode": "METRO", "people": 276, "kmOneWay": 1, "roundTrip": False, "origin": "京口区"}


def asking(key: str = "neutral-0001", **changes: Any) -> dict[str, Any]:
    """A thousand people by metro, a kilometre there: 36 kg."""
    given: dict[str, Any] = {
        "idempotencyKey": key,
        "event": {"nameZh": "春季马拉松", "nameEn": "Spring Marathon", "date": "2026-11-08", "place": "镇江"},
        "attendance": [METRO],
        "instrument": to_global_id("Instrument", CREDIT),
        "maxPriceFen": REFERENCE_FEN,
    }
    return {"input": {**given, **changes}}


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> AsyncIterator[TradingFloor]:
    """Alice offers a hundred kilograms; the steelworks and bob have money; nobody waits for the matcher."""
    opened = await TradingFloor(services, clock).open()
    patience_s, services.market.orders.patience_s = services.market.orders.patience_s, 0
    await opened.give_credits("alice", 100_000)
    for name in ("@steelworks", "bob"):
        await opened.give_fen(name, 100_000)
    await opened.sell("alice", 100)
    opened.wait(milliseconds=1)
    # Tokens are valid for minutes of the clock's own.
    yield opened
    services.market.orders.patience_s = patience_s


async def test_anybody_estimates_with_every_source_named(api: Api) -> None:
    told = (await api.post(ESTIMATE, {"input": {"attendance": [METRO], "days": 2}})).result
    assert told == {
        "factorsVersion": "2025-1",
        "quantityG": 35_974,
        "totalG": 36_000,
        "lines": [
            {
                "origin": "京口区",
                "people": 276,
                "totalKm": 276,
                "quantityG": 35_974,
                "factor": {
                    "mode": "METRO",
                    "per": "PASSENGER",
                    "mgPerKm": 130_340,
                    "document": "UK Government greenhouse gas conversion factors 2025",
                    "publisher": "Department for Energy Security and Net Zero",
                    "year": 2025,
                    "note": "No published figure for a Chinese grid is at hand; counted like an average local bus, "
                    "which is more",
                },
            }
        ],
    }
    chinese = (await api.post(ESTIMATE, {"input": {"attendance": [METRO]}}, language="zh")).result
    assert chinese["lines"][0]["factor"]["publisher"] == "英国能源安全与净零部"
    factors = (await api.post("{ travelFactors { mode mgPerKm } }")).result
    assert {"mode": "CAR", "mgPerKm": 167_250} in factors
    assert "FLIGHT" not in str(factors)


@pytest.mark.parametrize(
    ("attendance", "code", "message"),
    [
        ({"mode": "FLIGHT"}, "UNSOURCED_MODE", "there is no published emission factor for FLIGHT to rely on"),
        ({"people": 0}, "INVALID_INPUT", "field attendance[0].people is invalid: 1–10000000"),
        ({"kmOneWay": -5}, "INVALID_INPUT", "field attendance[0].kmOneWay is invalid: 1–40000"),
        (
            {"vehicles": 3},
            "INVALID_INPUT",
            "field attendance[0].vehicles is invalid: this mode is counted by passengers",
        ),
    ],
)
async def test_what_cannot_be_estimated_is_told(api: Api, attendance: dict[str, Any], code: str, message: str) -> None:
    answer = await api.post(ESTIMATE, {"input": {"attendance": [{**METRO, **attendance}]}})
    assert answer.refusal == (code, message)


async def test_an_event_becomes_neutral(api: Api, floor: TradingFloor, token_for: Callable[..., str]) -> None:
    token = token_for("enterprise", "steelworks", 600)
    begun = (await api.post(NEUTRALISE, asking(), token=token)).result
    assert {name: begun[name] for name in begun if name not in ("id", "orderId")} == {
        "stage": "BUYING",
        "totalG": 36_000,
        "toBuyG": 36_000,
        "boughtG": 0,
        "failure": None,
        "credit": CREDIT,
        "maxPriceFen": REFERENCE_FEN,
        "event": {"nameZh": "春季马拉松", "nameEn": "Spring Marathon", "date": "2026-11-08", "place": "镇江"},
        "beneficiary": {"name": "Spring Marathon"},
        "estimate": {"totalG": 36_000},
        "certificate": None,
    }
    await floor.match()
    floor.clock.advance(timedelta(seconds=31))
    assert await floor.services.market.neutrality.work_off() == 1
    done = (await api.post(NEUTRALISE, asking(), token=token)).result
    assert (done["id"], done["stage"], done["boughtG"]) == (begun["id"], "RETIRED", 36_000)
    assert done["certificate"] == {
        "number": done["certificate"]["number"],
        "quantityG": 36_000,
        "purpose": "EVENT",
        "beneficiary": {"name": "Spring Marathon"},
    }
    shown = {"stage": "RETIRED", "certificate": {"quantityG": 36_000}}
    assert (await api.post(NODE, {"id": begun["id"]}, token=token)).result == shown
    assert (await api.post(NODE, {"id": begun["id"]}, token=token_for("admin", "root"))).result == shown
    for other in (token_for("citizen", "alice", 600), token_for("enterprise", "others", 600), None):
        assert (await api.post(NODE, {"id": begun["id"]}, token=other)).result is None
    own = "{ neutralisations { nodes { id } } }"
    assert (await api.post(own, token=token)).result == {"nodes": [{"id": begun["id"]}]}
    assert (await api.post(own, token=token_for("citizen", "alice", 600))).result == {"nodes": []}
    assert (await api.post(own)).code == "UNAUTHENTICATED"


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "unsourced": (
        {"attendance": [{**METRO, "mode": "FERRY"}]},
        ("UNSOURCED_MODE", "there is no published emission factor for FERRY to rely on"),
    ),
    "nobody": ({"attendance": []}, ("INVALID_INPUT", "field attendance is invalid: 1–100 entries")),
    "unknown": ({"instrument": "credit:none"}, ("UNKNOWN_INSTRUMENT", "there is no instrument credit:none")),
    "outside the band": (
        {"maxPriceFen": 9_999},
        ("OUTSIDE_BAND", "9999 fen/t is outside the day's band of 5400–6600"),
    ),
    "too dear": (
        {"attendance": [{**METRO, "people": 10_000_000}]},
        ("INSUFFICIENT_MONEY", "not enough money: 7859502 fen needed, 100000 available"),
    ),
    "no name": (
        {"event": {"nameZh": "", "date": "2026-11-08", "place": "镇江"}},
        ("INVALID_INPUT", "field event.nameZh is invalid: 1–120 characters, none of them control characters"),
    ),
    "no price": ({"maxPriceFen": 0}, ("INVALID_INPUT", f"field maxPriceFen is invalid: 1–{10**9}")),
    "a bad key": (
        {"idempotencyKey": "short"},
        ("INVALID_INPUT", "field idempotencyKey is invalid: 8–64 printable ASCII characters"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_changes_nothing(
    api: Api, floor: TradingFloor, token_for: Callable[..., str], name: str
) -> None:
    changes, (code, message) = REFUSED[name]
    before = await dump(floor.services)
    found = (await api.post(NEUTRALISE, asking(**changes), token=token_for("enterprise", "steelworks"))).result
    assert found == {"code": code, "message": message}
    assert await dump(floor.services) == before


async def test_a_halted_market_is_told_and_leaves_nothing(
    api: Api, floor: TradingFloor, token_for: Callable[..., str]
) -> None:
    await floor.services.market.exchange.desk.halt(ADMIN, CREDIT, "a test", key=floor.key())
    before = await dump(floor.services)
    found = (await api.post(NEUTRALISE, asking(), token=token_for("enterprise", "steelworks"))).result
    assert found["code"] == "MARKET_HALTED"
    assert await dump(floor.services) == before


async def test_a_key_used_otherwise_is_refused(api: Api, floor: TradingFloor, token_for: Callable[..., str]) -> None:
    token = token_for("enterprise", "steelworks")
    await api.post(NEUTRALISE, asking(), token=token)
    before = await dump(floor.services)
    found = (await api.post(NEUTRALISE, asking(days=2), token=token)).result
    assert found["code"] == "IDEMPOTENCY_CONFLICT"
    assert await dump(floor.services) == before


@pytest.mark.parametrize("who", PEOPLE)
async def test_citizens_and_enterprises_neutralise(
    api: Api, floor: TradingFloor, token_for: Callable[..., str], who: str
) -> None:
    before = await dump(floor.services)
    person = PEOPLE[who]
    answer = await api.post(NEUTRALISE, asking(), token=token_for(*person) if person else None)
    if who in ("other citizen", "enterprise"):
        assert answer.result["stage"] == "BUYING"
        return
    if who == "citizen":
        assert answer.result["code"] == "INSUFFICIENT_MONEY"
    else:
        assert answer.code == ("UNAUTHENTICATED" if who == "nobody" else "FORBIDDEN")
    assert await dump(floor.services) == before
