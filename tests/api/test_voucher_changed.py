"""voucherChanged over a real websocket: a citizen's phones learn of their own vouchers, and nobody else's do."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.runtime import voucher_channel
from schemas.operations import read_operation
from tests.api.reward_documents import ask, denials, everything, global_id
from tests.api.selling import PEOPLE, Town

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backend.kernel.clock import ManualClock
    from backend.rewards.vouchers.model import Voucher
    from backend.runtime import Services
    from tests.api.client import Api
    from tests.api.sockets import Phone, Server

pytestmark = pytest.mark.anyio

CHANGED = read_operation("VoucherChanged")
ONE_MINUTE = timedelta(minutes=1)


@pytest.fixture
async def town(services: Services, token_for: Callable[..., str]) -> Town:
    """A town where alice has a thousand points."""
    made = await Town(services, token_for).open()
    await made.earn()
    return made


@asynccontextmanager
async def listening(server: Server, town: Town, who: str, phones: int = 1) -> AsyncIterator[Phone]:
    """A phone of that citizen that hears of vouchers, the last of so many."""
    async with server.phone(headers={"accept-language": "en"}) as phone:
        await phone.greet(town.token(who))
        await phone.ask(CHANGED)
        (_, citizen) = PEOPLE[who] or ("", "")
        await server.until_heard(citizen, phones, channel_of=voucher_channel)
        yield phone


async def heard(phone: Phone) -> Any:
    """The next voucher the phone learns of."""
    return (await phone.receive())["payload"]["data"]["voucherChanged"]


async def heard_nothing(phone: Phone) -> None:
    """Assert that nothing waits for the phone: the next thing it hears is the answer to its own ping."""
    await phone.send("ping")
    assert (await phone.receive())["type"] == "pong"


def told(voucher: Voucher, **changes: Any) -> dict[str, Any]:
    """What a phone is told of a pot of tea."""
    usual = {
        "id": global_id(voucher),
        "status": "HELD",
        "title": "A pot of tea",
        "itemsLeft": 1,
        "points": 500,
        "pointsCaptured": 0,
        "pointsRefunded": 0,
    }
    return {**usual, **changes}


async def test_redemption_capture_and_refund_reach_the_citizens_phones_alone(
    server: Server, api: Api, town: Town
) -> None:
    offer = await town.offer()
    async with (
        listening(server, town, "citizen") as first,
        listening(server, town, "citizen", phones=2) as second,
        listening(server, town, "other citizen") as other,
    ):
        phones = (first, second)
        made = (await ask(api, "redeemOffer", town.token("citizen"), offer=offer.id)).result
        [voucher] = await town.services.rewards.vouchers.list_vouchers(
            "alice", limit=1, older=None, newer=None, newest=True
        )
        assert made["id"] == global_id(voucher)
        assert [await heard(phone) for phone in phones] == [told(voucher)] * 2
        await ask(api, "captureVoucher", town.token("cashier"), code=town.shown(voucher), key="key-0002")
        captured = told(voucher, status="CAPTURED", itemsLeft=0, pointsCaptured=500)
        assert [await heard(phone) for phone in phones] == [captured] * 2
        await ask(api, "refundVoucher", town.token("owner"), voucher=voucher.id, reason="洒了", key="key-0003")
        refunded = {**captured, "status": "REFUNDED", "pointsRefunded": 500}
        assert [await heard(phone) for phone in phones] == [refunded] * 2
        for phone in (*phones, other):
            await heard_nothing(phone)


async def test_expiry_and_cancellation_reach_the_phone(
    server: Server, api: Api, town: Town, clock: ManualClock
) -> None:
    offer = await town.offer()
    over, given_up = await town.redeem(offer), await town.redeem(offer)
    async with listening(server, town, "citizen") as phone, listening(server, town, "other citizen") as other:
        await ask(api, "cancelVoucher", town.token("citizen"), voucher=given_up.id)
        assert await heard(phone) == told(given_up, status="CANCELLED", itemsLeft=0)
        clock.current = over.expires_at
        assert await town.services.rewards.ending.end_due() == 1
        # The token of this phone ended long before: it is told so, and no more.
        [error] = (await phone.receive())["payload"]["errors"]
        assert error["extensions"] == {"code": "UNAUTHENTICATED"}
        await heard_nothing(other)


async def test_expiry_is_told_as_it_happens(server: Server, town: Town, services: Services, clock: ManualClock) -> None:
    now = services.clock.now()
    voucher = await town.redeem(await town.offer(valid_to=now + ONE_MINUTE, vouchers_until=now + ONE_MINUTE))
    async with listening(server, town, "citizen") as phone, listening(server, town, "other citizen") as other:
        clock.advance(ONE_MINUTE)
        assert await services.rewards.ending.end_due() == 1
        assert await heard(phone) == told(voucher, status="EXPIRED", itemsLeft=0)
        await heard_nothing(other)


async def test_nobody_but_citizens_listens(server: Server, town: Town) -> None:
    before = await everything(town)
    for who, code in denials("citizen", "other citizen").items():
        async with server.phone(headers={"accept-language": "en"}) as phone:
            await phone.greet(town.token(who))
            await phone.ask(CHANGED)
            answer = await phone.receive()
            [error] = answer["payload"] if answer["type"] == "error" else answer["payload"]["errors"]
            message = "not permitted: voucherChanged" if code == "FORBIDDEN" else "sign in first (no token)"
            assert (who, error["message"], error["extensions"]) == (who, message, {"code": code})
    assert await everything(town) == before
