"""An event made neutral through the real exchange: bought all at once or not at all, retired once, whatever stops."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.identity.errors import ForbiddenError
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.ledger.audit.whole import audit_ledger
from backend.market.exchange.errors import InsufficientMoneyError, MarketClosedError, UnknownInstrumentError
from backend.market.exchange.invariants import audit_exchange
from backend.market.neutrality.errors import UnsourcedModeError
from backend.market.neutrality.invariants import audit_neutrality
from backend.market.neutrality.model import Event, Leg, Neutralising, NeutralStage, TravelMode
from backend.market.retirement.invariants import audit_retirement
from backend.market.retirement.model import Beneficiary, RetirementPurpose
from backend.market.serials.invariants import audit_serials
from tests.conftest import dump
from tests.factories import ADMIN, citizen, partner
from tests.fault.test_redemption_kills import Mortal
from tests.floor import CREDIT
from tests.integration.trading_floor import OPEN, REFERENCE_FEN, TradingFloor, works
from tests.simulation.chance import IS_NIGHTLY

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.market.neutrality.model import Neutralisation
    from backend.runtime import Services

STEEL, TOTAL_G = "@steelworks", 36_000
CLAIM = timedelta(seconds=31)
STEP = 1 if IS_NIGHTLY else 4


def asking(**changes: Any) -> Neutralising:
    """A thousand people by metro, a kilometre there: 35,080 g, 36 kg."""
    given: dict[str, Any] = {
        "event": Event("春季马拉松", "Spring Marathon", date(2026, 11, 8), "镇江"),
        "legs": (Leg(mode=TravelMode.METRO, people=276, km=1, is_return=False),),
        "days": 1,
        "credit": CREDIT,
        "max_price_fen": REFERENCE_FEN,
        "beneficiary": Beneficiary("Steelworks", "钢铁厂"),
    }
    return Neutralising(**{**given, **changes})


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> TradingFloor:
    """Alice offers a hundred kilograms; the steelworks have money; nobody waits for the matcher."""
    opened = await TradingFloor(services, clock).open()
    services.market.orders.patience_s = 0
    await opened.give_credits("alice", 1_000_000)
    await opened.give_fen(STEEL, 1_000_000)
    return opened


async def neutralise(floor: TradingFloor, key: str = "neutral-0001", **changes: Any) -> Neutralisation:
    """Ask for it, after whatever was placed before."""
    floor.wait(milliseconds=1)
    return await floor.services.market.neutrality.neutralise(works(), asking(**changes), key=key)


async def go_on(floor: TradingFloor, one: Neutralisation) -> Neutralisation:
    """Let the matcher and then the sweeper do what they have to."""
    await floor.match()
    floor.clock.advance(CLAIM)
    await floor.services.market.neutrality.work_off()
    found = await floor.services.market.neutrality.find(works(), one.id)
    assert found is not None
    return found


async def findings(services: Services) -> list[str]:
    """What the audits of book, serials, exchange, certificates and neutralisations find."""
    async with services.database.snapshot() as snapshot:
        audit = await audit_ledger(snapshot)
        await audit_serials(snapshot, audit)
        await audit_exchange(snapshot, audit)
        await audit_retirement(snapshot, audit)
        await audit_neutrality(snapshot, audit)
        return audit.findings


async def test_an_event_becomes_neutral(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    begun = await neutralise(floor)
    assert (begun.stage, begun.total_g, begun.to_buy_g) == (NeutralStage.BUYING, TOTAL_G, TOTAL_G)
    assert begun.order is not None
    done = await go_on(floor, begun)
    assert (done.stage, done.bought_g, done.failure) == (NeutralStage.RETIRED, TOTAL_G, None)
    assert done.certificate is not None
    made = await floor.services.market.retirement.find(done.certificate)
    assert made is not None
    assert (made.grams, made.purpose, made.owner) == (TOTAL_G, RetirementPurpose.EVENT, begun.owner)
    assert made.beneficiary == Beneficiary("Steelworks", "钢铁厂")
    assert made.statement == "春季马拉松 / Spring Marathon · 2026-11-08 · 镇江"
    assert await floor.grams(STEEL) == (0, 0)
    assert await findings(floor.services) == []
    # Sent again, it tells the same, and nothing is bought or retired twice.
    before = await dump(floor.services)
    assert await neutralise(floor) == done
    assert await floor.services.market.neutrality.work_off() == 0
    assert await dump(floor.services) == before


async def test_where_nobody_sells_so_much_it_fails_and_costs_nothing(floor: TradingFloor) -> None:
    await floor.sell("alice", 35)
    money = await floor.fen(STEEL)
    done = await go_on(floor, await neutralise(floor))
    assert (done.stage, done.failure, done.bought_g) == (NeutralStage.FAILED, "FOK_UNFILLABLE", 0)
    assert await floor.fen(STEEL) == money
    assert await findings(floor.services) == []


async def test_where_credits_are_dearer_it_fails(floor: TradingFloor) -> None:
    await floor.sell("alice", 100, REFERENCE_FEN + 1)
    assert (await go_on(floor, await neutralise(floor))).failure == "FOK_UNFILLABLE"


@pytest.mark.parametrize(("kg", "bought"), [(10, 26_000), (36, 0), (50, 0)])
async def test_what_is_there_is_used_first(floor: TradingFloor, kg: int, bought: int) -> None:
    await floor.sell("alice", 100)
    await floor.give_credits(STEEL, kg * 1_000 + 500)
    begun = await neutralise(floor, uses_holdings=True)
    assert begun.to_buy_g == bought
    if not bought:
        assert (begun.stage, begun.order) == (NeutralStage.RETIRED, None)
    done = await go_on(floor, begun)
    assert (done.stage, done.bought_g) == (NeutralStage.RETIRED, bought)
    left = kg * 1_000 + 500 + bought - TOTAL_G
    page = await floor.services.ledger.get_page(begun.owner)
    assert page.balance(CREDIT) == left * 1_000
    assert await findings(floor.services) == []


async def test_what_is_there_is_kept_where_it_is_not_to_be_used(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    await floor.give_credits(STEEL, 50_000)
    done = await go_on(floor, await neutralise(floor))
    assert (done.bought_g, (await floor.grams(STEEL))[0]) == (TOTAL_G, 50_000)


async def test_what_was_sold_meanwhile_is_not_retired_and_what_was_bought_stays(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    await floor.give_credits(STEEL, 10_000)
    begun = await neutralise(floor, uses_holdings=True)
    await floor.sell(STEEL, 10, REFERENCE_FEN + 100)
    done = await go_on(floor, begun)
    assert (done.stage, done.failure, done.bought_g) == (NeutralStage.FAILED, "INSUFFICIENT_CREDITS", 26_000)
    assert await floor.grams(STEEL) == (36_000, 26_000)
    assert await findings(floor.services) == []


REFUSED: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "a mode without a factor": (
        {"legs": (Leg(mode=TravelMode.FLIGHT, people=1, km=900),)},
        UnsourcedModeError,
    ),
    "nobody comes": ({"legs": ()}, InvalidInputError),
    "an event without a name": ({"event": Event("", None, date(2026, 11, 8), "镇江")}, InvalidInputError),
    "too many words": ({"statement": "x" * 501}, InvalidInputError),
    "no such instrument": ({"credit": "credit:none"}, UnknownInstrumentError),
    "more than there is money for": (
        {"legs": (Leg(mode=TravelMode.CAR, people=10_000, km=1_000),)},
        InsufficientMoneyError,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_changes_nothing(floor: TradingFloor, name: str) -> None:
    changes, error = REFUSED[name]
    await floor.sell("alice", 100)
    await floor.match()
    before = await dump(floor.services)
    with pytest.raises(error):
        await neutralise(floor, **changes)
    assert await dump(floor.services) == before
    # The key is free for a better request.
    assert (await neutralise(floor)).stage is NeutralStage.BUYING


async def test_a_closed_market_is_told_and_leaves_nothing(floor: TradingFloor) -> None:
    floor.clock.advance(timedelta(hours=12))
    before = await dump(floor.services)
    with pytest.raises(MarketClosedError):
        await neutralise(floor)
    assert await dump(floor.services) == before


@pytest.mark.parametrize("who", [ADMIN, partner()])
async def test_only_citizens_and_enterprises_neutralise(floor: TradingFloor, who: Any) -> None:
    before = await dump(floor.services)
    with pytest.raises(ForbiddenError):
        await floor.services.market.neutrality.neutralise(who, asking(), key="neutral-0001")
    assert await dump(floor.services) == before


async def test_a_key_used_otherwise_is_refused(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    await neutralise(floor)
    before = await dump(floor.services)
    for changes in ({"days": 2}, {"max_price_fen": 1}, {"uses_holdings": True}):
        with pytest.raises(IdempotencyConflictError):
            await neutralise(floor, **changes)
    assert await dump(floor.services) == before


async def test_only_its_owner_and_staff_find_it(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    begun = await neutralise(floor)
    find = floor.services.market.neutrality.find
    assert await find(works(), begun.id) == begun
    assert await find(ADMIN, begun.id) == begun
    assert await find(citizen(), begun.id) is None
    assert await find(works("others"), begun.id) is None
    assert await floor.services.market.neutrality.list_own(works(), limit=9) == [begun]
    assert await floor.services.market.neutrality.list_own(citizen(), limit=9) == []


async def test_several_who_ask_the_same_at_once_buy_once(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    begun = await asyncio.gather(*(neutralise(floor) for _ in range(8)))
    assert len({one.id for one in begun}) == 1
    await floor.match()
    floor.clock.advance(CLAIM)
    await asyncio.gather(*(floor.services.market.neutrality.work_off() for _ in range(4)))
    done = await floor.services.market.neutrality.find(works(), begun[0].id)
    assert done is not None
    assert done.stage is NeutralStage.RETIRED
    assert await floor.services.market.retirement.total() == (1, TOTAL_G)
    assert await floor.grams(STEEL) == (0, 0)
    assert await findings(floor.services) == []


@pytest.mark.parametrize("uses_holdings", [False, True])
async def test_a_crash_at_any_instant_ends_in_one_retirement(floor: TradingFloor, *, uses_holdings: bool) -> None:
    """Cut off at each instant it waits in turn: first when it is asked for, then when it goes on."""
    await floor.give_fen(STEEL, 10_000_000)
    desk, tonight = floor.services.market.exchange.desk, floor.clock.now() + timedelta(hours=9)
    await desk.open_session(ADMIN, CREDIT, tonight, key=floor.key())
    held = 10 if uses_holdings else 0
    rounds = 0
    for operation in ("ask", "go on"):
        # By day every fourth instant, others where credits are held than where they are not.
        instant, waits = (0 if IS_NIGHTLY else -2 * uses_holdings), 0
        while waits >= instant:
            instant += STEP
            rounds += 1
            await floor.give_credits(STEEL, held * 1_000 + 1)
            await floor.give_credits("alice", 40_000)
            await floor.sell("alice", 36 - held)
            key = f"neutral-{rounds:04}"
            if operation == "ask":
                call: Any = neutralise(floor, key, uses_holdings=uses_holdings)
            else:
                await neutralise(floor, key, uses_holdings=uses_holdings)
                await floor.match()
                floor.clock.advance(CLAIM)
                call = floor.services.market.neutrality.work_off()
            mortal = Mortal(call, instant)
            await asyncio.gather(asyncio.ensure_future(_outcome(mortal)), return_exceptions=True)
            waits = mortal.waits
            begun = await neutralise(floor, key, uses_holdings=uses_holdings)
            done = await go_on(floor, await go_on(floor, begun))
            assert done.stage is NeutralStage.RETIRED, (operation, instant, done)
            assert await floor.services.market.retirement.total() == (rounds, rounds * TOTAL_G)
    assert rounds > 10
    assert await findings(floor.services) == []


async def _outcome(mortal: Mortal) -> object:
    return await mortal


async def test_a_neutralisation_that_says_what_is_not_so_is_found(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    done = await go_on(floor, await neutralise(floor))
    for change in (
        {"stage": "FAILED"},
        {"stage": "BUYING", "certificate": None},
        {"certificate": None},
        {"statement": "something else"},
    ):
        kept = await floor.services.database.find_one("market_neutralisations", {"_id": done.id})
        assert kept is not None
        await floor.services.database.update_one("market_neutralisations", {"_id": done.id}, {"$set": change})
        assert await findings(floor.services) != []
        await floor.services.database.update_one("market_neutralisations", {"_id": done.id}, {"$set": kept})
    assert await findings(floor.services) == []
    await floor.services.database.delete_one("market_certificates", {})
    assert f"neutralisation {done.id}: is retired without a certificate" in await findings(floor.services)


ENDED, OPEN_AT = {"ended_at": None}, {"made_at": OPEN + timedelta(days=9)}
FORGED_RETIRED: dict[str, dict[str, Any]] = {
    "payload": {"payload": "0" * 64},
    "owner": {"owner": "enterprise:others"},
    "people": {"legs.0.people": Int64(277)},
    "kilometres": {"legs.0.km": Int64(2)},
    "origin": {"legs.0.origin": "Nanjing"},
    "return": {"legs.0.is_return": True},
    "mode": {"legs.0.mode": "BUS"},
    "days": {"days": Int64(2)},
    "price": {"max_price_fen": Int64(REFERENCE_FEN + 1)},
    "who was named": {"named_beneficiary.name": "Others"},
    "holdings": {"uses_holdings": True},
    "what is bought": {"to_buy_g": Int64(TOTAL_G - 1_000)},
    "what was bought": {"bought_g": Int64(TOTAL_G + 1_000)},
    "order": {"order": "ord_none"},
    "no order": {"order": None},
    "certificate": {"certificate": "crt_" + "0" * 32},
    "failure": {"failure": "X"},
    "not ended": ENDED,
    "begun after its end": OPEN_AT,
    "a mode that is none": {"legs.0.mode": "ROCKET"},
    "a mode without a factor": {"legs.0.mode": "FLIGHT"},
    "nobody": {"legs": []},
}
FORGED_FAILED: dict[str, dict[str, Any]] = {
    "owner": {"owner": "enterprise:others"},
    "event": {"event.name_zh": "别的活动"},
    "place": {"event.place": "南京"},
    "day": {"event.day": "2026-11-09"},
    "credit": {"credit": "credit:none"},
    "beneficiary": {"beneficiary.name": "Others"},
    "statement": {"statement": "x"},
    "named": {"is_named": True},
    "total": {"total_g": Int64(TOTAL_G - 1_000), "to_buy_g": Int64(TOTAL_G - 1_000)},
    "stage": {"stage": "BOUGHT"},
    "what was bought": {"bought_g": Int64(1)},
    "no failure": {"failure": None},
    "another failure": {"failure": "EXPIRED"},
    "not ended": ENDED,
    "factors that are none": {"legs.0.people": "many"},
}


async def forge(floor: TradingFloor, one: Neutralisation, changes: dict[str, Any]) -> list[str]:
    """What is found where these fields are changed, which then are as they were."""
    raw = floor.services.database.raw["market_neutralisations"]
    [kept] = await raw.find({"_id": one.id}).to_list()
    await raw.update_one({"_id": one.id}, {"$set": changes}, bypass_document_validation=True)
    found = await findings(floor.services)
    await raw.replace_one({"_id": one.id}, kept)
    return [finding for finding in found if one.id in finding]


async def test_each_forged_field_is_found(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    done = await go_on(floor, await neutralise(floor))
    failed = await go_on(floor, await neutralise(floor, "neutral-0002", max_price_fen=5_900))
    assert (done.stage, failed.stage) == (NeutralStage.RETIRED, NeutralStage.FAILED)
    assert await findings(floor.services) == []
    unnoticed = [name for name, changes in FORGED_RETIRED.items() if not await forge(floor, done, changes)]
    unnoticed += [name for name, changes in FORGED_FAILED.items() if not await forge(floor, failed, changes)]
    assert unnoticed == []
    assert await findings(floor.services) == []


async def test_one_that_cannot_go_on_holds_up_no_other(floor: TradingFloor) -> None:
    """Neither one that breaks when it is worked on, nor one that cannot even be read."""
    await floor.sell("alice", 120)
    poisoned, unread, sound = [await neutralise(floor, f"neutral-{number:04}") for number in range(3)]
    await floor.match()
    raw = floor.services.database.raw["market_neutralisations"]
    for one, forged in ((poisoned, {"owner": "robot:x"}), (unread, {"legs.0.mode": "ROCKET"})):
        await raw.update_one({"_id": one.id}, {"$set": forged}, bypass_document_validation=True)
    floor.clock.advance(CLAIM)
    assert await floor.services.market.neutrality.work_off() == 1
    found = await floor.services.market.neutrality.find(works(), sound.id)
    assert found is not None
    assert found.stage is NeutralStage.RETIRED


async def test_a_beneficiary_is_kept_in_one_spelling(floor: TradingFloor) -> None:
    await floor.sell("alice", 100)
    begun = await neutralise(floor, beneficiary=Beneficiary(" Steelworks ", "钢铁厂 "))
    assert begun.beneficiary == Beneficiary("Steelworks", "钢铁厂")
    again = await neutralise(floor, beneficiary=Beneficiary("Steelworks", "钢铁厂"))
    assert (again.id, again.payload) == (begun.id, begun.payload)
    assert await findings(floor.services) == []
