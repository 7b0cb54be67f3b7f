"""What everybody reads of the market, however much is asked: bounded, shared, and refused where it cannot be."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import UnavailableError
from tests.api.documents import shown
from tests.api.exchange_documents import INSTRUMENT_ID, Hall
from tests.integration.trading_floor import KG, OPEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

BOOK = """query ($id: ID!, $depth: Int! = 10) { orderBook(instrument: $id, depth: $depth) {
  bids { priceFen quantityG } asks { priceFen quantityG } sequence at } }"""
CANDLES = """query ($id: ID!, $interval: CandleInterval!, $since: DateTime!, $until: DateTime!) {
  candles(instrument: $id, interval: $interval, since: $since, until: $until) { start volumeG } }"""
FEW_CANDLES = """candles(instrument: "x", interval: DAY, since: "2026-01-01T00:00:00Z",
  until: "2026-01-02T00:00:00Z") { start }"""


@pytest.fixture
async def hall(services: Services, clock: ManualClock, token_for: Callable[..., str]) -> Hall:
    """A hall in which alice has ten kilograms."""
    hall = Hall(services, clock)
    hall.token_for = token_for
    await hall.open()
    await hall.give_credits("alice", 10 * KG)
    return hall


DATES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9997-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "1970-01-01T00:00:00Z",
)


@pytest.mark.parametrize("interval", ["MINUTE", "HOUR", "DAY"])
async def test_no_date_breaks_candles(api: Api, hall: Hall, interval: str) -> None:
    told = set()
    for since, until in itertools.product(DATES, DATES):
        asked = {"id": INSTRUMENT_ID, "interval": interval, "since": since, "until": until}
        answer = await api.post(CANDLES, asked, token=None, language="en")
        told.add(answer.body["errors"][0]["extensions"]["code"] if answer.body.get("errors") else "DONE")
    # Some are no dates to the scalar itself.
    assert told - {"BAD_USER_INPUT"} == {"DONE", "INVALID_INPUT"}


async def test_candles_of_hours_are_few_enough_to_be_read(api: Api, hall: Hall) -> None:
    """They are made of minutes, ten thousand at most."""
    asked = {"id": INSTRUMENT_ID, "interval": "HOUR", "since": shown(OPEN)}
    for hours, refusal in ((166, None), (167, "field until is invalid: at most 166 candles")):
        answer = await api.post(
            CANDLES, {**asked, "until": shown(OPEN + timedelta(hours=hours))}, token=None, language="en"
        )
        assert [error["message"] for error in answer.body.get("errors", [])] == ([refusal] if refusal else [])


async def test_all_who_ask_at_once_read_one_book(
    api: Api, hall: Hall, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as the market changes, and then at most four times a second; within one revision never twice."""
    data, count = services.market.exchange.data, 0
    whole = data._reads.list_depth

    async def counted(name: Any) -> Any:
        nonlocal count
        count += 1
        return await whole(name)

    monkeypatch.setattr(data._reads, "list_depth", counted)
    await hall.sell("alice", 1, 6_000)
    await hall.match()

    async def grams() -> int:
        answer = await api.post(BOOK, {"id": INSTRUMENT_ID, "depth": 1}, token=None)
        return int(answer.body["data"]["orderBook"]["asks"][0]["quantityG"])

    assert await asyncio.gather(*(grams() for _ in range(20))) == [KG] * 20
    assert count == 1
    # What has not changed is not read again, and what has, not at once.
    assert (await grams(), count) == (KG, 1)
    await hall.sell("alice", 2, 6_000)
    await hall.match()
    data.shown_for_s = 1_000
    assert (await grams(), count) == (KG, 1)
    data.shown_for_s = 0
    assert (await grams(), count) == (3 * KG, 2)


async def test_a_book_that_could_not_be_read_is_read_again(
    hall: Hall, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, instrument = services.market.exchange.data, await hall.instrument()

    async def broken(name: Any) -> Any:
        raise UnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(data._reads, "list_depth", broken)
        with pytest.raises(UnavailableError):
            await data.book(instrument, 5)
    assert (await data.book(instrument, 5)).depth == ((), ())


LISTED = """query ($first: Int, $after: String) { listedInstruments(first: $first, after: $after) {
  edges { node { batch } } pageInfo { hasNextPage endCursor } } }"""


async def test_all_instruments_are_paged_and_the_last_hundred_listed(api: Api, hall: Hall, services: Services) -> None:
    raw = services.database.raw["market_instruments"]
    [one] = await raw.find({}).to_list()
    others = [f"batch-{number:03}" for number in range(104)]
    await raw.insert_many(
        {**one, "_id": f"credit:{name}", "listed_at": OPEN + timedelta(minutes=number)}
        for number, name in enumerate(others, 1)
    )
    latest = (await api.post("{ instruments { batch } }", {}, token=None)).body["data"]["instruments"]
    assert [shown_one["batch"] for shown_one in latest] == others[::-1][:100]
    seen: list[str] = []
    after = None
    while after is not None or not seen:
        page = (await api.post(LISTED, {"first": 60, "after": after}, token=None)).body["data"]["listedInstruments"]
        seen += [edge["node"]["batch"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
    assert seen == [*others[::-1], one["_id"].removeprefix("credit:")]


@pytest.mark.parametrize(("field", "most"), [('orderBook(instrument: "x") { sequence }', 9), (FEW_CANDLES, 6)])
async def test_few_books_and_candles_are_read_at_once(api: Api, field: str, most: int) -> None:
    for count, code in ((most, None), (most + 1, "COST_LIMIT")):
        document = "{" + " ".join(f"a{number}: {field}" for number in range(count)) + "}"
        errors = (await api.post(document, {}, token=None)).body.get("errors", [])
        assert (errors[0]["extensions"]["code"] if errors else None) == code
