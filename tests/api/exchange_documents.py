"""The mutations of the exchange as the API's tests send them, and what each test of a refusal asserts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.relay import to_global_id
from tests.api.selling import PEOPLE
from tests.conftest import dump
from tests.floor import CREDIT
from tests.integration.trading_floor import TradingFloor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.api.client import Answer, Api

INSTRUMENT_ID = to_global_id("Instrument", CREDIT)
ORDER = """
  __typename id instrumentId side kind timeInForce status reason priceFen quantityG filledG remainingG cancelledG
  valueFen feeFen reservedFen reservedG goodUntil createdAt isQueued lastCommand { kind at outcome }
"""
INSTRUMENT = """
  __typename id credit batch phase phaseUntil haltReason auctionFloorFen isIrrevocable referenceFen
  band { lowFen highFen } lotG tickFen makerFeeBps takerFeeBps listedAt lastAt
  ticker { lastFen changeFen changeBps highFen lowFen volumeG valueFen trades }
"""
REFUSAL = "... on Refusal { code message }"
SUCCESSES = {
    "placeOrder": f"... on Order {{ {ORDER} }}",
    "placeOrders": f"... on PlacedOrders {{ results {{ ... on Order {{ {ORDER} }} {REFUSAL} }} }}",
    "cancelOrder": f"... on Order {{ {ORDER} }}",
    "amendOrder": f"... on Order {{ {ORDER} }}",
    "listInstrument": f"... on Instrument {{ {INSTRUMENT} }}",
    "haltTrading": f"... on Instrument {{ {INSTRUMENT} }}",
    "resumeTrading": f"... on Instrument {{ {INSTRUMENT} }}",
    "openSession": f"... on Instrument {{ {INSTRUMENT} }}",
    "openAuction": f"... on Instrument {{ {INSTRUMENT} }}",
}
DOCUMENTS = {
    name: f"mutation ($input: {name[0].upper()}{name[1:]}Input!) {{ {name}(input: $input) {{ __typename {success} "
    "... on Refusal { code message } } }"
    for name, success in SUCCESSES.items()
}
KEY = "key-0001"
Told = tuple[str, str, str]
SIGN_IN = ("sign in first (no token)", "请先登录（没有令牌）")


class Hall(TradingFloor):
    """A trading floor whose people have tokens."""

    token_for: Callable[..., str]

    def token(self, who: str) -> str | None:
        """The token of one of ``PEOPLE``."""
        found = PEOPLE[who]
        return self.token_for(*found) if found else None


async def ask(api: Api, name: str, token: str | None, *, language: str = "en", key: str = KEY, **given: Any) -> Answer:
    """Send one mutation."""
    return await api.post(DOCUMENTS[name], {"input": {"idempotencyKey": key, **given}}, token=token, language=language)


def bid(**changes: Any) -> dict[str, Any]:
    """A bid for a kilogram at the reference, but for the changes."""
    return {"instrument": INSTRUMENT_ID, "side": "BUY", "priceFen": 6_000, "quantityG": 1_000, **changes}


def outcome(answer: Answer) -> str:
    """What became of a request: the type of its success, or the code of its refusal or denial."""
    if "errors" in answer.body:
        return answer.code
    return str(answer.result.get("code") or answer.result["__typename"])


async def refused(api: Api, hall: Hall, name: str, expected: Told, *, who: str = "enterprise", **given: Any) -> None:
    """Assert code and messages of a refusal, and that it changes nothing."""
    before = await dump(hall.services)
    code, zh, en = expected
    for language, message in (("zh", zh), ("en", en)):
        answer = await ask(api, name, hall.token(who), language=language, **given)
        assert (answer.result.get("code"), answer.result.get("message")) == (code, message)
    assert await dump(hall.services) == before


async def only(
    api: Api, hall: Hall, name: str, denied: Mapping[str, str], forbidden: tuple[str, str], **given: Any
) -> None:
    """Assert what each of these people is told instead, and that nothing changed."""
    before = await dump(hall.services)
    for who, code in denied.items():
        en, zh = SIGN_IN if PEOPLE[who] is None else forbidden
        for language, message in (("en", en), ("zh", zh)):
            answer = await ask(api, name, hall.token(who), language=language, **given)
            assert (who, outcome(answer)) == (who, code)
            if code in {"FORBIDDEN", "UNAUTHENTICATED"}:
                assert (answer.refusal[1], answer.body["data"]) == (message, None)
    assert await dump(hall.services) == before


def denials(*allowed: str, **otherwise: str) -> dict[str, str]:
    """What all but those allowed are told: FORBIDDEN, but for those named (``_`` for a blank)."""
    told = dict.fromkeys(PEOPLE, "FORBIDDEN") | {"nobody": "UNAUTHENTICATED"}
    told |= {who.replace("_", " "): code for who, code in otherwise.items()}
    return {who: code for who, code in told.items() if who not in allowed}
