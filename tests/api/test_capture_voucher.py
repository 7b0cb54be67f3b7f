"""captureVoucher and the desk's voucher(code:): from the picture on the phone to points that moved; refusals, roles."""

from __future__ import annotations

import asyncio
import base64
import io
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import zxingcpp
from PIL import Image

from backend.rewards.vouchers import codes
from schemas.operations import read_operation
from schemas.relay import to_global_id
from tests.api.documents import shown
from tests.api.reward_documents import (
    KEY,
    SIGN_IN,
    Told,
    ask,
    denials,
    everything,
    global_id,
    only,
    outcome,
    refused,
    snapshot,
)
from tests.api.selling import CASHIER, OWNER, Town
from tests.factories import replay
from tests.unit.rewards.trading import ROOT, member_details, shop_details, works

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

NODE = "query ($id: ID!) { node(id: $id) { ... on Voucher { status itemsLeft shownCode { token typed svg png } } } }"
BOTH = "{ viewer { ... on Citizen { pointsBalance pointsHeld } } }"
INVALID = ("CODE_INVALID", "券码无效，请核对后重试", "the code is not valid here; check it and try again")
FORGED = "TH1.00000000.59841600.AAAAAAAAAAAAAAAAAAAA"
CAPTURED = """
query ($since: DateTime!, $until: DateTime!) {
  merchantDesk { captured(since: $since, until: $until) { id title pointsCaptured secret shownCode { token } } }
}
"""


@pytest.fixture
async def town(services: Services, token_for: Callable[..., str]) -> Town:
    """A town where alice has a thousand points."""
    made = await Town(services, token_for).open()
    await made.earn()
    return made


def read_qr(png: str) -> str:
    """What a stock reader reads off the picture."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        [found] = zxingcpp.read_barcodes(picture)
    return str(found.text)


async def test_the_picture_on_the_phone_is_read_looked_up_and_captured(
    api: Api, town: Town, services: Services
) -> None:
    voucher = await town.redeem(await town.offer(cash_fen=800))
    code = (await api.post(NODE, {"id": global_id(voucher)}, token=town.token("citizen"))).result["shownCode"]
    read = read_qr(code["png"])
    assert read == code["token"]
    before = await everything(town)
    looked = (await api.post(read_operation("LookUpVoucher"), {"code": read}, token=town.token("cashier"))).result
    assert looked["voucher"] == {
        "__typename": "Voucher",
        "id": global_id(voucher),
        "status": "HELD",
        "title": "A pot of tea",
        "handover": "Serve a pot",
        "cashFen": 800,
        "items": 1,
        "itemsLeft": 1,
        "expiresAt": shown(voucher.expires_at),
    }
    assert await everything(town) == before
    variables = {"input": {"idempotencyKey": KEY, "code": read}}
    result = (await api.post(read_operation("CaptureVoucher"), variables, token=town.token("cashier"))).result
    [capture] = result.pop("captures")
    assert capture.pop("transactionId").startswith("tx_")
    [shop] = town.house.shops
    assert capture == {
        "at": shown(services.clock.now()),
        "items": 1,
        "points": 500,
        "shop": to_global_id("Shop", shop.id),
    }
    assert result == {
        "__typename": "Voucher",
        "id": global_id(voucher),
        "status": "CAPTURED",
        "title": "A pot of tea",
        "handover": "Serve a pot",
        "cashFen": 800,
        "items": 1,
        "itemsLeft": 0,
    }
    assert (await api.post(BOTH, token=town.token("citizen"))).result == {"pointsBalance": 500, "pointsHeld": 0}
    after = (await api.post(NODE, {"id": global_id(voucher)}, token=town.token("citizen"))).result
    assert after == {"status": "CAPTURED", "itemsLeft": 0, "shownCode": None}
    assert (await replay(services)).findings == []


async def test_a_typed_code_will_do_and_the_counter_never_learns_the_secret(api: Api, town: Town) -> None:
    voucher = await town.redeem(await town.offer(items=4))
    code = town.services.rewards.vouchers.shown_code(voucher)
    assert code is not None
    sloppy = code.typed.lower().replace("-", " ")
    result = (await ask(api, "captureVoucher", town.token("cashier"), code=sloppy, items=3)).result
    assert (result["status"], result["itemsLeft"], result["pointsCaptured"]) == ("PART", 1, 375)
    assert (result["secret"], result["shownCode"], result["partnerCode"]) == (None, None, None)


async def test_of_ten_counters_that_try_at_once_one_hands_over(api: Api, town: Town, services: Services) -> None:
    for number in range(10):
        login = f"cashier{number}"
        await services.rewards.merchants.add_member(works(OWNER), None, login, member_details(), key=town.key())
    voucher = await town.redeem()
    code = town.shown(voucher)
    answers = await asyncio.gather(
        *(ask(api, "captureVoucher", town.token_for("merchant", f"cashier{n}"), code=code) for n in range(10))
    )
    assert Counter(map(outcome, answers)) == {"Voucher": 1, "VOUCHER_STATUS": 9}
    assert (await api.post(BOTH, token=town.token("citizen"))).result == {"pointsBalance": 500, "pointsHeld": 0}


async def test_the_same_key_captures_once_and_another_capture_under_it_is_a_conflict(
    api: Api, town: Town, services: Services, clock: ManualClock
) -> None:
    voucher = await town.redeem(await town.offer(items=2))
    code = town.shown(voucher)
    first = (await ask(api, "captureVoucher", town.token("cashier"), code=code, items=1)).result
    # The reply was lost; the till asks again when the code is long over.
    clock.advance(timedelta(minutes=10))
    before = await everything(town)
    assert (await ask(api, "captureVoucher", town.token("cashier"), code=code, items=1)).result == first
    assert await everything(town) == before
    conflict = (
        "IDEMPOTENCY_CONFLICT",
        f"幂等键 {KEY} 已用于内容不同的请求",
        f"idempotency key {KEY} was already used with another payload",
    )
    await refused(api, town, "captureVoucher", conflict, who="cashier", code=code, items=2)


REFUSALS: dict[str, tuple[dict[str, Any], Told]] = {
    "no code": ({"code": "hello"}, INVALID),
    "a forged code": ({"code": FORGED}, INVALID),
    "a long text": ({"code": "9" * 5_000}, INVALID),
    "no items": ({"items": 0}, ("INVALID_INPUT", "字段 items 无效：1–100", "field items is invalid: 1–100")),
    "a short key": (
        {"key": "1234567"},
        (
            "INVALID_INPUT",
            "字段 idempotencyKey 无效：8–64 个可打印 ASCII 字符",
            "field idempotencyKey is invalid: 8–64 printable ASCII characters",
        ),
    ),
    "too many items": ({"items": 3}, ("ITEMS_EXCEEDED", "只剩 2 份可核销，不足 3 份", "2 items are left, not 3")),
    "no such shop": (
        {"shop": "shop_none"},
        ("UNKNOWN_SHOP", "该商户没有门店 shop_none", "the merchant has no shop shop_none"),
    ),
}


@pytest.mark.parametrize(("given", "expected"), REFUSALS.values(), ids=REFUSALS)
async def test_a_capture_is_refused_in_both_languages(
    api: Api, town: Town, given: dict[str, Any], expected: Told
) -> None:
    voucher = await town.redeem(await town.offer(items=2))
    sent = {"code": town.shown(voucher), **given}
    await refused(api, town, "captureVoucher", expected, who="cashier", **sent)


async def test_old_and_used_codes_are_told_apart(api: Api, town: Town, clock: ManualClock) -> None:
    voucher = await town.redeem(await town.offer(items=2))
    code = town.shown(voucher)
    await ask(api, "captureVoucher", town.token("cashier"), code=code, items=1)
    told = (
        "CODE_REPLAYED",
        "该券码已使用过一次，请稍后出示新码",
        "this code was used before; wait for the next one",
    )
    await refused(api, town, "captureVoucher", told, who="cashier", code=code, items=1, key="key-0002")
    clock.advance(timedelta(minutes=2))
    told = ("CODE_EXPIRED", "券码已过期，请顾客刷新后出示", "the code is out of date; ask for the one shown now")
    await refused(api, town, "captureVoucher", told, who="cashier", code=code, key="key-0002")
    last = await ask(api, "captureVoucher", town.token("cashier"), code=town.shown(voucher), key="key-0003")
    [_, capture] = last.result["captures"]
    at = clock.now().astimezone(town.services.programme.zone)
    assert capture["at"] == shown(clock.now())
    told = (
        "VOUCHER_STATUS",
        f"该券已核销（{at:%Y-%m-%d %H:%M:%S}），不能执行该操作",
        f"the voucher is handed over (since {at:%Y-%m-%d %H:%M:%S}), so this cannot be done",
    )
    await refused(api, town, "captureVoucher", told, who="cashier", code=town.shown(voucher), key="key-0004")


async def test_a_voucher_that_is_over_a_wrong_shop_and_a_suspended_merchant(
    api: Api, town: Town, services: Services, clock: ManualClock
) -> None:
    merchants = services.rewards.merchants
    [east] = town.house.shops
    house = await merchants.save_shop(works(OWNER), None, None, shop_details(), key=town.key())
    [west] = [shop for shop in house.shops if shop.id != east.id]
    voucher = await town.redeem(await town.offer(shops=(east.id,)))
    wrong = ("WRONG_SHOP", "该券不适用于本门店", "the voucher is not for this shop")
    shop = to_global_id("Shop", west.id)
    await refused(api, town, "captureVoucher", wrong, who="cashier", code=town.shown(voucher), shop=shop)
    where = ("INVALID_INPUT", "字段 shop 无效：请指明门店", "field shop is invalid: name the shop")
    await refused(api, town, "captureVoucher", where, who="cashier", code=town.shown(voucher))
    bound = member_details(shop=west.id)
    await merchants.change_member(works(OWNER), None, CASHIER, bound, key=town.key())
    told = ("UNKNOWN_SHOP", f"该商户没有门店 {east.id}", f"the merchant has no shop {east.id}")
    await refused(api, town, "captureVoucher", told, who="cashier", code=town.shown(voucher), shop=east.id)
    await merchants.suspend(ROOT, town.house.id, "复核中", key=town.key())
    told = (
        "MERCHANT_STAGE",
        f"商户 {town.house.id} 当前状态为 SUSPENDED，不能执行该操作",
        f"merchant {town.house.id} is SUSPENDED, so this cannot be done",
    )
    await refused(api, town, "captureVoucher", told, who="owner", code=town.shown(voucher), shop=east.id)
    await merchants.resume(ROOT, town.house.id, key=town.key())
    clock.current = voucher.expires_at - timedelta(milliseconds=1)
    code = town.shown(voucher)
    clock.advance(timedelta(milliseconds=1))
    late = ("VOUCHER_EXPIRED", "该券已过期，积分已退回", "the voucher has expired and its points are returned")
    await refused(api, town, "captureVoucher", late, who="owner", code=code, shop=east.id)


async def test_who_gives_ten_wrong_codes_waits_at_both_doors(api: Api, town: Town) -> None:
    voucher = await town.redeem()
    for _ in range(5):
        assert outcome(await ask(api, "captureVoucher", town.token("cashier"), code=FORGED)) == "CODE_INVALID"
        looked = await api.post(read_operation("LookUpVoucher"), {"code": FORGED}, token=town.token("cashier"))
        assert looked.result["voucher"] == {"__typename": "CodeInvalid", "code": INVALID[0], "message": INVALID[2]}
    wait = (
        "TOO_MANY_CODES",
        "10 分钟内错误券码超过 10 次，请稍后再试",
        "more than 10 wrong codes in 10 minutes; wait a while",
    )
    await refused(api, town, "captureVoucher", wait, who="cashier", code=town.shown(voucher))
    right = {"code": town.shown(voucher)}
    looked = await api.post(read_operation("LookUpVoucher"), right, token=town.token("cashier"))
    assert (looked.result["voucher"]["code"], looked.result["voucher"]["message"]) == (wait[0], wait[2])
    assert outcome(await ask(api, "captureVoucher", town.token("owner"), **right)) == "Voucher"


async def test_a_hundred_guesses_at_once_are_ten(api: Api, town: Town, services: Services, clock: ManualClock) -> None:
    voucher = await town.redeem()
    right = set()
    for seconds in (-30, 0, 30):
        shown_then = codes.show(services.rewards.vouchers.secret_of(voucher), voucher.number, moved(clock, seconds))
        right.add(shown_then.typed[-4:])
    wrong = [digits for digits in (f"{number:04}" for number in range(103)) if digits not in right][:100]
    before = await snapshot(town)
    answers = await asyncio.gather(
        *(
            ask(api, "captureVoucher", town.token("cashier"), code=f"{voucher.number}{digits}", key=f"guess-{digits}")
            for digits in wrong
        )
    )
    told = Counter(map(outcome, answers))
    # Who comes while ten are being looked at does not know yet, and may ask again.
    assert (told["CODE_INVALID"], set(told) - {"BUSY", "TOO_MANY_CODES"}) == (10, {"CODE_INVALID"})
    assert await snapshot(town) == before


async def test_right_codes_are_no_tries(api: Api, town: Town, clock: ManualClock) -> None:
    voucher = await town.redeem(await town.offer(items=12))
    before = None
    for number in range(12):
        code = town.services.rewards.vouchers.shown_code(voucher)
        if code is not None and code.typed == before:
            # Once in ten thousand steps: four digits that two steps share mean the earlier one.
            clock.advance(timedelta(seconds=31))
            code = town.services.rewards.vouchers.shown_code(voucher)
        assert code is not None
        before = code.typed
        answer = await ask(
            api, "captureVoucher", town.token("cashier"), code=code.typed, items=1, key=f"key-{number:04}"
        )
        assert (number, outcome(answer)) == (number, "Voucher")
        clock.advance(timedelta(seconds=31))


def moved(clock: ManualClock, seconds: int) -> datetime:
    """The present moved by so many seconds."""
    return clock.now() + timedelta(seconds=seconds)


NOT_YOURS = ("not permitted: managing merchants", "无权执行该操作：商户管理")


async def test_nobody_but_the_merchants_people_captures(api: Api, town: Town) -> None:
    voucher = await town.redeem(await town.offer(items=2))
    told = denials("owner", "cashier", other_merchant="CODE_INVALID")
    await only(api, town, "captureVoucher", told, NOT_YOURS, code=town.shown(voucher))
    assert outcome(await ask(api, "captureVoucher", town.token("owner"), code=town.shown(voucher))) == "Voucher"


async def test_nobody_but_the_merchants_people_looks_codes_and_captures_up(
    api: Api, town: Town, services: Services
) -> None:
    voucher = await town.redeem()
    code = town.shown(voucher)
    await town.capture(voucher)
    now = services.clock.now()
    period = {"since": shown(now - timedelta(days=1)), "until": shown(now + timedelta(days=1))}
    found = {"id": global_id(voucher), "title": "A pot of tea", "pointsCaptured": 500, "secret": None}
    before = await snapshot(town)
    for who, code_told in denials("owner", "cashier", other_merchant="").items():
        for document, variables in ((read_operation("LookUpVoucher"), {"code": code}), (CAPTURED, period)):
            answer = await api.post(document, variables, token=town.token(who))
            if who == "other merchant":
                seen = answer.result.get("voucher", {}).get("code") or answer.result.get("captured")
                assert seen == ("CODE_INVALID" if variables is not period else [])
            else:
                expected = SIGN_IN[0] if who == "nobody" else NOT_YOURS[0]
                assert answer.refusal == (code_told, expected)
    assert await snapshot(town) == before
    for who in ("owner", "cashier"):
        [seen] = (await api.post(CAPTURED, period, token=town.token(who))).result["captured"]
        assert seen == {**found, "shownCode": None}
    too_long = {**period, "until": shown(now + timedelta(days=31))}
    answer = await api.post(CAPTURED, too_long, token=town.token("owner"))
    assert answer.refusal == ("INVALID_INPUT", "field until is invalid: after since, by 31 days at most")
