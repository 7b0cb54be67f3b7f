"""Offers: drafted, approved by another, changed, restocked; codes given once each; what is refused changes nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from backend.identity.errors import ForbiddenError
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.clock import local_date
from backend.kernel.errors import DomainError, IdempotencyConflictError, InvalidInputError, Text
from backend.rewards.merchants.errors import MerchantStageError, OwnApprovalError, UnknownMerchantError
from backend.rewards.merchants.model import MerchantId
from backend.rewards.offers.errors import (
    OfferStageError,
    SoldOutError,
    StaleOfferError,
    UnknownOfferError,
)
from backend.rewards.offers.model import OfferId, OfferStage, Stock, StockKind
from backend.rewards.stock.errors import StockTakenError
from backend.rewards.stock.model import Want, stock_pot
from tests.conftest import dump
from tests.factories import citizen
from tests.integration.market import Market, open_market
from tests.unit.rewards.trading import (
    DAY,
    RITA,
    ROOT,
    application,
    code_terms,
    contract_terms,
    donation_terms,
    member_details,
    offer_terms,
    works,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backend.kernel.clock import ManualClock
    from backend.rewards.offers.model import Offer
    from backend.rewards.stock.model import Pot
    from backend.runtime import Services

pytestmark = pytest.mark.anyio
CHEN, LI, WU = works("chen"), works("li"), works("wu")
REVIEWER = Principal(PrincipalKind.STAFF, "vera", frozenset({StaffRole.REVIEWER}))
KEY, KEY_2 = "key-0001", "key-0002"
TOTAL, DAILY = StockKind.TOTAL, StockKind.DAILY
UNKNOWN = OfferId("off_none")
PAGE: Any = {"limit": 10, "older": None, "newer": None, "newest": True}


@pytest.fixture
async def market(services: Services) -> Market:
    """A merchant that sells, of the owner chen with the cashier li; wu owns another."""
    made = open_market(services)
    await made.approved()
    await made.merchants.add_member(CHEN, None, "li", member_details(), key=KEY)
    await made.approved("wu", number=2)
    return made


async def seen(market: Market, offer: OfferId) -> Offer:
    """The offer as it stands."""
    return (await market.offers.find_offers([offer]))[offer]


async def pot(market: Market, offer: OfferId, day: Any = None) -> Pot:
    """The offer's pot as it stands."""
    name = stock_pot(offer, day)
    return (await market.pots.find([name]))[name]


async def take(market: Market, offer: OfferId, units: int, total: int, day: Any = None) -> None:
    """Let somebody redeem so many units."""
    name = stock_pot(offer, day)
    reserved = await market.pots.reserve(f"rsv-{market.key()}", {name: Want(units, total)})
    assert reserved.pots[name].units == units
    await market.pots.finish(reserved, {name: units})


async def test_an_offer_is_drafted_submitted_and_approved_by_another(market: Market, clock: ManualClock) -> None:
    terms = offer_terms(clock.now())
    draft = await market.offers.create(CHEN, None, terms, key=KEY)
    assert (draft.stage, draft.terms, draft.revision, draft.version) == (OfferStage.DRAFT, terms, 1, 1)
    assert draft.created_at == clock.now()
    clock.advance(timedelta(minutes=1))
    waiting = await market.offers.submit(CHEN, draft.id, key=KEY)
    assert (waiting.stage, waiting.submitted_by, waiting.submitted_at) == (
        OfferStage.SUBMITTED,
        "merchant:chen",
        clock.now(),
    )
    assert await market.offers.list_waiting(REVIEWER, **PAGE) == [waiting]
    assert await market.offers.find_public(draft.id) is None
    live = await market.offers.approve(RITA, draft.id, seen=waiting.version, key=KEY)
    assert (live.stage, live.revision, live.version, live.submitted_at) == (OfferStage.LIVE, 1, 3, None)
    assert await market.offers.find_public(draft.id) == live
    assert await market.offers.list_waiting(REVIEWER, **PAGE) == []
    log = await market.merchants.list_log(ROOT, draft.merchant, **PAGE)
    mine = [entry for entry in log if entry.offer == draft.id]
    assert [(entry.actor, entry.step) for entry in mine] == [
        ("staff:rita", "APPROVE_OFFER"),
        ("merchant:chen", "SUBMIT_OFFER"),
        ("merchant:chen", "CREATE_OFFER"),
    ]
    assert [entry.before for entry in mine] == [mine[1].after, mine[2].after, None]


async def test_whatever_an_offer_may_be_is_stored_and_read_again(market: Market) -> None:
    for make in (offer_terms, donation_terms, code_terms):
        made = await market.draft(terms=make)
        assert await seen(market, made.id) == made


async def test_staff_submit_for_a_merchant_and_others_of_staff_approve(market: Market) -> None:
    draft = await market.draft()
    waiting = await market.offers.submit(ROOT, draft.id, key=KEY)
    approve = partial(market.offers.approve, offer=draft.id, seen=waiting.version, key=KEY_2)
    await market.refused(approve(ROOT), OwnApprovalError)
    assert (await approve(RITA)).stage is OfferStage.LIVE


async def test_what_is_approved_is_what_was_seen(market: Market, clock: ManualClock) -> None:
    draft = await market.draft()
    waiting = await market.offers.submit(CHEN, draft.id, key=KEY)
    await market.offers.update(CHEN, draft.id, offer_terms(clock.now(), price_points=1), key=KEY)
    await market.refused(market.offers.approve(RITA, draft.id, seen=waiting.version, key=KEY), OfferStageError)
    await market.offers.submit(CHEN, draft.id, key=KEY_2)
    stale = await market.refused(market.offers.approve(RITA, draft.id, seen=waiting.version, key=KEY), StaleOfferError)
    assert isinstance(stale, StaleOfferError)
    live = await market.offers.approve(RITA, draft.id, seen=stale.version, key=KEY)
    assert live.terms.price_points == 1


async def test_an_offer_is_returned_with_a_reason(market: Market) -> None:
    draft = await market.draft()
    await market.offers.submit(CHEN, draft.id, key=KEY)
    returned = await market.offers.return_(RITA, draft.id, "no picture", key=KEY)
    assert (returned.stage, returned.reason, returned.submitted_by) == (OfferStage.DRAFT, "no picture", None)
    again = await market.offers.submit(CHEN, draft.id, key=KEY_2)
    assert again.reason is None
    await market.refused(market.offers.return_(RITA, draft.id, "", key=KEY_2), InvalidInputError)


async def test_on_sale_texts_change_at_once_and_the_price_when_approved(market: Market, clock: ManualClock) -> None:
    live = await market.live()
    start = live.terms.valid_from
    written = offer_terms(start, title=Text("好茶", "Good tea"), price_points=600)
    clock.advance(timedelta(hours=1))
    proposed = await market.offers.update(CHEN, live.id, written, key=KEY)
    assert (proposed.terms.title.zh, proposed.terms.price_points, proposed.revision) == ("好茶", 500, 2)
    assert (proposed.stage, proposed.proposed, proposed.submitted_at) == (OfferStage.LIVE, written, clock.now())
    assert await market.offers.list_waiting(REVIEWER, **PAGE) == [proposed]
    approved = await market.offers.approve(RITA, live.id, seen=proposed.version, key=KEY)
    assert (approved.terms, approved.proposed, approved.revision) == (written, None, 3)
    await market.refused(market.offers.approve(RITA, live.id, seen=approved.version, key=KEY_2), OfferStageError)
    again = await market.offers.update(CHEN, live.id, offer_terms(start, price_points=700), key=KEY_2)
    assert again.proposed is not None
    returned = await market.offers.return_(RITA, live.id, "too dear", key=KEY)
    assert (returned.stage, returned.terms.price_points, returned.proposed) == (OfferStage.LIVE, 600, None)
    assert returned.reason == "too dear"


async def test_an_offer_is_paused_resumed_and_ended(market: Market) -> None:
    live = await market.live()
    paused = await market.offers.pause(CHEN, live.id, key=KEY)
    assert paused.stage is OfferStage.PAUSED
    assert await market.offers.find_public(live.id) is None
    await market.refused(market.offers.pause(CHEN, live.id, key=KEY_2), OfferStageError)
    assert (await market.offers.resume(ROOT, live.id, key=KEY)).stage is OfferStage.LIVE
    assert (await market.offers.end(CHEN, live.id, key=KEY)).stage is OfferStage.ENDED
    asked: list[Awaitable[Any]] = [
        market.offers.resume(CHEN, live.id, key=KEY_2),
        market.offers.submit(CHEN, live.id, key=KEY_2),
        market.offers.update(CHEN, live.id, live.terms, key=KEY_2),
        market.offers.set_stock(CHEN, live.id, Stock(StockKind.UNLIMITED), key=KEY_2),
        market.offers.end(CHEN, live.id, key=KEY_2),
    ]
    for one in asked:
        await market.refused(one, OfferStageError)


async def test_a_suspended_merchants_offers_are_not_approved_and_a_closed_ones_only_ended(market: Market) -> None:
    draft, live = await market.draft(), await market.live()
    waiting = await market.offers.submit(CHEN, draft.id, key=KEY)
    await market.merchants.suspend(ROOT, draft.merchant, "complaints", key=KEY)
    approve = partial(market.offers.approve, RITA, draft.id, seen=waiting.version, key=KEY)
    await market.refused(approve(), MerchantStageError)
    assert await market.offers.find_public(live.id) is None
    await market.merchants.close(ROOT, draft.merchant, "gave up", key=KEY)
    asked: list[Awaitable[Any]] = [
        approve(),
        market.offers.create(CHEN, None, live.terms, key=KEY),
        market.offers.pause(CHEN, live.id, key=KEY),
    ]
    for one in asked:
        await market.refused(one, MerchantStageError)
    assert (await market.offers.end(CHEN, live.id, key=KEY)).stage is OfferStage.ENDED


async def test_what_is_put_on_sale_is_looked_at_once_more(market: Market, clock: ManualClock) -> None:
    brief, waiting = await market.draft(valid_to=clock.now() + DAY), await market.draft(valid_to=clock.now() + DAY)
    await market.offers.submit(CHEN, waiting.id, key=KEY)
    clock.advance(DAY)
    for asked in (
        market.offers.submit(CHEN, brief.id, key=KEY_2),
        market.offers.approve(RITA, waiting.id, seen=2, key=KEY),
    ):
        refused = await market.refused(asked, InvalidInputError)
        assert isinstance(refused, InvalidInputError)
        assert refused.field == "validTo"


@pytest.mark.parametrize("kind", [TOTAL, DAILY])
async def test_stock_grows_and_shrinks_by_what_is_free(market: Market, clock: ManualClock, kind: StockKind) -> None:
    live = await market.live(stock=Stock(kind, 10))
    day = local_date(clock.now(), market.services.programme.zone) if kind is DAILY else None
    # Nobody has asked for any yet. Who has read the offer before opens no pot of ten now.
    assert (await market.offers.set_stock(CHEN, live.id, Stock(kind, 12), key="key-twelve")).revision == 2
    await take(market, live.id, 4, 10, day)
    held = await pot(market, live.id, day)
    assert (held.total, held.free) == (12, 8)
    changed = await market.offers.set_stock(CHEN, live.id, Stock(kind, 5), key=KEY)
    assert (changed.terms.stock, changed.stage, changed.proposed) == (Stock(kind, 5), OfferStage.LIVE, None)
    held = await pot(market, live.id, day)
    assert (held.total, held.free) == (5, 1)
    refused = await market.refused(market.offers.set_stock(CHEN, live.id, Stock(kind, 3), key=KEY_2), StockTakenError)
    assert isinstance(refused, StockTakenError)
    assert (refused.asked, refused.free) == (2, 1)
    await market.offers.set_stock(ROOT, live.id, Stock(kind, 100), key=KEY_2)
    held = await pot(market, live.id, day)
    assert (held.total, held.free) == (100, 96)
    for wrong in (Stock(StockKind.UNLIMITED), Stock(kind, -1)):
        await market.refused(market.offers.set_stock(CHEN, live.id, wrong, key="key-0003"), InvalidInputError)


async def test_a_draft_has_no_pot_yet_whose_size_could_stay(market: Market, clock: ManualClock) -> None:
    drafts = [await market.draft(stock=stock) for stock in (Stock(TOTAL, 10), Stock(StockKind.UNLIMITED))]
    codes = await market.draft(terms=code_terms)
    for draft in drafts:
        await market.offers.set_stock(CHEN, draft.id, draft.terms.stock, key=market.key())
        await market.offers.update(CHEN, draft.id, offer_terms(clock.now(), stock=Stock(TOTAL, 20)), key=market.key())
    await market.offers.add_codes(CHEN, codes.id, ["a", "b"], key=market.key())
    assert await market.pots.find(stock_pot(offer.id) for offer in (*drafts, codes)) == {}
    for draft in drafts:
        waiting = await market.offers.submit(CHEN, draft.id, key=market.key())
        await market.offers.approve(RITA, draft.id, seen=waiting.version, key=market.key())
        await take(market, draft.id, 20, 20)
    # On sale without bounds there is none either.
    free = await market.live()
    await market.offers.set_stock(CHEN, free.id, Stock(StockKind.UNLIMITED), key=market.key())
    assert await market.pots.find([stock_pot(free.id)]) == {}


async def test_tomorrow_has_the_new_daily_stock(market: Market, clock: ManualClock) -> None:
    live = await market.live(stock=Stock(DAILY, 10))
    zone = market.services.programme.zone
    today = local_date(clock.now(), zone)
    await take(market, live.id, 1, 10, today)
    clock.advance(DAY)
    changed = await market.offers.set_stock(CHEN, live.id, Stock(DAILY, 3), key=KEY)
    await take(market, live.id, 1, changed.terms.stock.units, local_date(clock.now(), zone))
    assert [(await pot(market, live.id, day)).total for day in (today, today + DAY)] == [10, 3]


async def test_who_works_elsewhere_or_nowhere_changes_nothing(market: Market, clock: ManualClock) -> None:
    live, terms = await market.live(), offer_terms(clock.now())
    offers = market.offers

    def owners(who: Principal, offer: OfferId) -> list[Awaitable[Any]]:
        return [
            offers.update(who, offer, terms, key=KEY),
            offers.submit(who, offer, key=KEY),
            offers.pause(who, offer, key=KEY),
            offers.resume(who, offer, key=KEY),
            offers.end(who, offer, key=KEY),
            offers.set_stock(who, offer, Stock(TOTAL, 1), key=KEY),
            offers.add_codes(who, offer, ["a"], key=KEY),
        ]

    expected: list[tuple[Principal, type[DomainError]]] = [
        (LI, ForbiddenError),
        (WU, UnknownOfferError),
        (works("nobody"), ForbiddenError),
        (citizen("chen"), ForbiddenError),
        (REVIEWER, ForbiddenError),
    ]
    for who, error in expected:
        for asked in owners(who, live.id):
            await market.refused(asked, error)
    for who in (CHEN, ROOT):
        for asked in owners(who, UNKNOWN):
            await market.refused(asked, UnknownOfferError)
    for who in (CHEN, *(who for who, _ in expected)):
        await market.refused(offers.approve(who, live.id, seen=3, key=KEY), ForbiddenError)
        await market.refused(offers.return_(who, live.id, "no", key=KEY), ForbiddenError)


async def test_offers_are_made_and_listed_where_one_works(market: Market) -> None:
    live = await market.live()
    draft = await market.draft()
    create = market.offers.create
    await market.refused(create(LI, None, live.terms, key=KEY), ForbiddenError)
    await market.refused(create(WU, live.merchant, live.terms, key=KEY), UnknownMerchantError)
    await market.refused(create(ROOT, None, live.terms, key=KEY), UnknownMerchantError)
    await market.refused(create(ROOT, MerchantId("mer_none"), live.terms, key=KEY), UnknownMerchantError)
    await market.refused(create(citizen("chen"), None, live.terms, key=KEY), ForbiddenError)
    by_staff = await create(ROOT, live.merchant, live.terms, key=KEY)
    for who in (CHEN, LI, REVIEWER):
        listed = await market.offers.list_of_merchant(who, live.merchant, **PAGE)
        assert {offer.id for offer in listed} == {live.id, draft.id, by_staff.id}
    for who in (WU, citizen("chen"), works("nobody")):
        with pytest.raises(ForbiddenError):
            await market.offers.list_of_merchant(who, live.merchant, **PAGE)
    for who in (CHEN, citizen("chen")):
        with pytest.raises(ForbiddenError):
            await market.offers.list_waiting(who, **PAGE)


async def test_terms_that_cannot_be_are_refused(market: Market, clock: ManualClock) -> None:
    draft = await market.draft()
    for changes in ({"price_points": 0}, {"picture": "0" * 64}, {"stock": Stock(TOTAL, -1)}):
        terms = offer_terms(clock.now(), **changes)
        await market.refused(market.offers.create(CHEN, None, terms, key=KEY), InvalidInputError)
        await market.refused(market.offers.update(CHEN, draft.id, terms, key=KEY), InvalidInputError)
    live = await market.live()
    for changes in ({"price_points": 0}, {"stock": Stock(TOTAL, 5)}):
        terms = offer_terms(live.terms.valid_from, **changes)
        await market.refused(market.offers.update(CHEN, live.id, terms, key=KEY), InvalidInputError)


async def test_the_same_key_again_answers_and_changes_nothing_and_another_payload_conflicts(
    services: Services, market: Market, clock: ManualClock
) -> None:
    offers, terms = market.offers, offer_terms(clock.now(), stock=Stock(TOTAL, 5))
    dearer = offer_terms(clock.now(), stock=Stock(TOTAL, 5), price_points=9)
    other = await market.live()

    async def once(ask: Callable[..., Awaitable[Any]], given: dict[str, Any], changed: dict[str, Any]) -> Any:
        first, before = await ask(**given, key=KEY), await dump(services)
        assert await ask(**given, key=KEY) == first
        with pytest.raises(IdempotencyConflictError):
            await ask(**{**given, **changed}, key=KEY)
        assert await dump(services) == before
        return first

    made = await once(offers.create, {"principal": CHEN, "merchant": None, "terms": terms}, {"terms": dearer})
    mine, staffs = {"principal": CHEN, "offer": made.id}, {"principal": RITA, "offer": made.id}
    elsewhere = {"offer": other.id}
    await once(offers.update, {**mine, "terms": dearer}, {"terms": terms})
    waiting = await once(offers.submit, mine, elsewhere)
    await once(offers.return_, {**staffs, "reason": "a reason"}, {"reason": "another"})
    waiting = await offers.submit(CHEN, made.id, key=KEY_2)
    await once(offers.approve, {**staffs, "seen": waiting.version}, {"seen": 1})
    await once(offers.pause, mine, elsewhere)
    await once(offers.resume, mine, elsewhere)
    await once(offers.set_stock, {**mine, "stock": Stock(TOTAL, 7)}, {"stock": Stock(TOTAL, 8)})
    await once(offers.end, mine, elsewhere)
    codes = await market.draft(terms=code_terms)
    await once(offers.add_codes, {"principal": CHEN, "offer": codes.id, "codes": ["a"]}, {"codes": ["b"]})


async def test_codes_are_the_stock_and_stored_unreadable(services: Services, market: Market) -> None:
    draft = await market.draft(terms=code_terms)
    added = await market.offers.add_codes(CHEN, draft.id, ["SECRET-1", " SECRET-2 "], key=KEY)
    assert (added.terms.stock, added.revision) == (Stock(TOTAL, 2), 2)
    assert "SECRET" not in str(await dump(services))
    live = await market.offers.submit(CHEN, draft.id, key=KEY)
    live = await market.offers.approve(RITA, draft.id, seen=live.version, key=KEY)
    await take(market, live.id, 1, 2)
    more = await market.offers.add_codes(ROOT, draft.id, ["SECRET-3"], key=KEY)
    assert (more.terms.stock, more.stage) == (Stock(TOTAL, 3), OfferStage.LIVE)
    held = await pot(market, live.id)
    assert (held.total, held.free) == (3, 2)
    for codes in (["SECRET-1"], ["new", "SECRET-2"], ["x", "x"], ["x", " x"], [], [""], ["x" * 65], ["x"] * 5_001):
        await market.refused(market.offers.add_codes(CHEN, live.id, codes, key=KEY_2), InvalidInputError)
    plain = await market.draft()
    await market.refused(market.offers.add_codes(CHEN, plain.id, ["x"], key=KEY_2), InvalidInputError)
    # Another merchant's codes are its own.
    theirs = await market.draft("wu", terms=code_terms)
    assert (await market.offers.add_codes(WU, theirs.id, ["SECRET-1"], key=KEY)).terms.stock.units == 1


async def test_five_thousand_codes_are_added_at_once(market: Market) -> None:
    draft = await market.draft(terms=code_terms)
    added = await market.offers.add_codes(CHEN, draft.id, [f"code-{number}" for number in range(5_000)], key=KEY)
    assert added.terms.stock.units == 5_000
    assert await market.services.database.count("offer_codes", {"offer": draft.id, "voucher": None}) == 5_000


async def test_each_code_is_given_to_one_voucher_and_each_voucher_one_code(market: Market) -> None:
    draft = await market.draft(terms=code_terms)
    codes = [f"code-{number}" for number in range(20)]
    await market.offers.add_codes(CHEN, draft.id, codes, key=KEY)
    vouchers = [f"vou_{number}" for number in range(20)]
    # Three requests for each voucher, all at once.
    asked = [market.codes.give(draft.id, voucher) for voucher in vouchers * 3]
    given = await asyncio.gather(*asked)
    assert given[:20] == given[20:40] == given[40:]
    assert sorted(given[:20]) == sorted(codes)
    assert await market.codes.give(draft.id, vouchers[7]) == given[7]
    await market.refused(market.codes.give(draft.id, "vou_more"), SoldOutError)
    await market.refused(market.codes.give(UNKNOWN, "vou_more"), SoldOutError)


async def test_of_ten_changes_at_once_each_is_noted(market: Market) -> None:
    live = await market.live(stock=Stock(TOTAL, 10))
    await take(market, live.id, 1, 10)
    asked = [market.offers.set_stock(CHEN, live.id, Stock(TOTAL, 10 + n), key=f"key-000{n}") for n in range(10)]
    await asyncio.gather(*asked)
    after, held = await seen(market, live.id), await pot(market, live.id)
    assert after.version == live.version + 10
    assert (held.total, held.free) == (after.terms.stock.units, after.terms.stock.units - 1)


async def test_contracts_do_not_matter_to_drafts(market: Market) -> None:
    await market.merchants.register(works("zhao"), application(9), key=KEY)
    draft = await market.draft("zhao")
    waiting = await market.offers.submit(works("zhao"), draft.id, key=KEY)
    approve = partial(market.offers.approve, RITA, draft.id, seen=waiting.version, key=KEY)
    await market.refused(approve(), MerchantStageError)
    await market.merchants.approve(ROOT, draft.merchant, contract_terms(), key=KEY)
    assert (await approve()).stage is OfferStage.LIVE
