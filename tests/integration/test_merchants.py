"""Merchants: two people let one in, everything is noted, and what is refused or raced changes nothing twice."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from backend.identity.errors import ForbiddenError
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import DomainError, IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.units import Ratio
from backend.rewards.merchants.cycles import period_end
from backend.rewards.merchants.errors import (
    CreditCodeTakenError,
    LastOwnerError,
    MemberTakenError,
    MerchantStageError,
    OwnApprovalError,
    ShopInUseError,
    UnknownMemberError,
    UnknownMerchantError,
    UnknownShopError,
)
from backend.rewards.merchants.model import Cycle, MemberRole, MerchantId, MerchantStage, ShopId
from tests.conftest import dump
from tests.factories import citizen, partner
from tests.integration.market import Market, open_market
from tests.unit.rewards.trading import (
    RITA,
    ROOT,
    application,
    contract_terms,
    credit_code,
    member_details,
    shop_details,
    works,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backend.kernel.clock import ManualClock
    from backend.rewards.merchants.model import Merchant
    from backend.runtime import Services

pytestmark = pytest.mark.anyio
CHEN, LI, WU = works("chen"), works("li"), works("wu")
REVIEWER = Principal(PrincipalKind.STAFF, "vera", frozenset({StaffRole.REVIEWER}))
KEY = "key-0001"
OWNER = member_details(role=MemberRole.OWNER)


@pytest.fixture
async def market(services: Services) -> Market:
    """Merchants and offers on an empty database."""
    return open_market(services)


async def entries(market: Market, merchant: str | None = None) -> list[tuple[str, str, str | None]]:
    """The log, oldest first: who, what, why."""
    log = await market.merchants.list_log(REVIEWER, merchant, limit=100, older=None, newer=None, newest=True)
    return [(entry.actor, entry.step.value, entry.reason) for entry in reversed(log)]


async def test_a_merchant_registers_and_another_lets_it_sell(market: Market, clock: ManualClock) -> None:
    applied = await market.merchants.register(CHEN, application(), key=KEY)
    assert (applied.stage, applied.registered_by, applied.registered_at) == (
        MerchantStage.APPLIED,
        "merchant:chen",
        clock.now(),
    )
    assert (applied.credit_code, applied.contracts, applied.shops, applied.version) == (credit_code(), (), (), 1)
    assert await market.merchants.find_public(applied.id) is None
    clock.advance(timedelta(hours=1))
    approved = await market.merchants.approve(ROOT, applied.id, contract_terms(budget_fen=10**6), key=KEY)
    assert (approved.stage, approved.version) == (MerchantStage.APPROVED, 2)
    contract = approved.contract_at(clock.now())
    assert contract is not None
    assert (contract.number, contract.rate, contract.valid_from) == (1, Ratio(1, 1), clock.now())
    assert contract.budget_fen == 10**6
    assert await market.merchants.find_public(applied.id) == approved
    assert await market.merchants.find_merchants([applied.id, MerchantId("mer_none")]) == {applied.id: approved}
    assert await market.merchants.find_merchant(REVIEWER, applied.id) == approved
    desk = await market.merchants.owner_desk(CHEN)
    assert (desk.merchant, desk.member.id, desk.member.role) == (approved, "chen", MemberRole.OWNER)
    assert await entries(market) == [("merchant:chen", "REGISTER", None), ("staff:root", "APPROVE", None)]


async def test_staff_register_a_merchant_for_its_owner_and_others_of_staff_approve(market: Market) -> None:
    named = application(owner="chen")
    for who, given in ((ROOT, application()), (LI, named)):
        await market.refused(market.merchants.register(who, given, key=KEY), InvalidInputError)
    applied = await market.merchants.register(ROOT, named, key=KEY)
    assert applied.registered_by == "staff:root"
    assert (await market.merchants.desk(CHEN)).is_owner
    approve = partial(market.merchants.approve, merchant=applied.id, contract=contract_terms(), key=KEY)
    await market.refused(approve(ROOT), OwnApprovalError)
    assert (await approve(RITA)).stage is MerchantStage.APPROVED


async def test_a_credit_code_is_one_merchants_unless_it_was_rejected(market: Market) -> None:
    first = await market.applied()
    register = market.merchants.register
    await market.refused(register(LI, application(), key=KEY), CreditCodeTakenError)
    await market.refused(register(CHEN, application(2), key=KEY), MemberTakenError)
    rejected = await market.merchants.reject(ROOT, first.id, "unreadable licence", key=KEY)
    assert (rejected.stage, rejected.reason) == (MerchantStage.REJECTED, "unreadable licence")
    # Who was rejected reads why, and applies again: by the same login or another.
    assert (await market.merchants.desk(CHEN)).merchant == rejected
    second = await register(CHEN, application(), key="key-0002")
    assert second.id != first.id
    assert (await market.merchants.desk(CHEN)).merchant == second
    await market.refused(register(LI, application(), key=KEY), CreditCodeTakenError)
    assert (await market.merchants.approve(ROOT, second.id, contract_terms(), key=KEY)).contracts[0].number == 1
    await market.merchants.close(ROOT, second.id, "gave up", key=KEY)
    await market.refused(register(LI, application(), key=KEY), CreditCodeTakenError)
    # The rejected one stays as it was.
    assert await market.merchants.find_merchant(ROOT, first.id) == rejected


async def test_a_merchant_is_suspended_resumed_and_closed(market: Market) -> None:
    merchant = await market.approved()
    merchants = market.merchants
    suspended = await merchants.suspend(RITA, merchant.id, "complaints", key="key-suspend")
    assert (suspended.stage, suspended.reason) == (MerchantStage.SUSPENDED, "complaints")
    assert await merchants.find_public(merchant.id) is None
    # Its people still come to their desk: they must see their statements.
    assert (await merchants.desk(CHEN)).merchant == suspended
    await market.refused(merchants.suspend(RITA, merchant.id, "again", key="key-suspend2"), MerchantStageError)
    resumed = await merchants.resume(RITA, merchant.id, key="key-resume")
    assert (resumed.stage, resumed.reason) == (MerchantStage.APPROVED, None)
    closed = await merchants.close(RITA, merchant.id, "bankrupt", key="key-close")
    assert (closed.stage, closed.reason) == (MerchantStage.CLOSED, "bankrupt")
    asked: list[Awaitable[Any]] = [
        merchants.resume(RITA, merchant.id, key=KEY),
        merchants.approve(RITA, merchant.id, contract_terms(), key=KEY),
        merchants.agree(RITA, merchant.id, contract_terms(), key=KEY),
        merchants.save_shop(CHEN, None, None, shop_details(), key=KEY),
        merchants.add_member(CHEN, None, "li", member_details(), key=KEY),
    ]
    for one in asked:
        await market.refused(one, MerchantStageError)
    assert [step for _, step, _ in await entries(market)][-3:] == ["SUSPEND", "RESUME", "CLOSE"]


async def test_a_reason_is_given_in_1_to_500_characters(market: Market) -> None:
    merchant = await market.approved()
    for reason in ("", " ", "x" * 501, "a\nb"):
        await market.refused(market.merchants.suspend(ROOT, merchant.id, reason, key=KEY), InvalidInputError)
    await market.merchants.suspend(ROOT, merchant.id, "x" * 500, key=KEY)


async def test_contracts_follow_one_another(market: Market, clock: ManualClock) -> None:
    merchant = await market.approved()
    soon = clock.now() + timedelta(days=10)
    agree = partial(market.merchants.agree, ROOT, merchant.id)
    for wrong in (
        contract_terms(rate=Ratio(0, 1)),
        contract_terms(budget_fen=0),
        contract_terms(valid_from=clock.now() - timedelta(milliseconds=1)),
    ):
        await market.refused(agree(wrong, key=KEY), InvalidInputError)
    # What is finer than a millisecond is cut off.
    agreed = await agree(contract_terms(commission_bps=0, valid_from=soon + timedelta(microseconds=999)), key=KEY)
    assert [contract.number for contract in agreed.contracts] == [1, 2]
    assert agreed.contracts[1].valid_from == soon
    in_force = [agreed.contract_at(moment) for moment in (clock.now(), soon - timedelta(milliseconds=1), soon)]
    assert [contract.number for contract in in_force if contract] == [1, 1, 2]
    assert (await market.merchants.find_merchants([merchant.id]))[merchant.id] == agreed


async def test_another_cycle_begins_with_a_period(market: Market, clock: ManualClock) -> None:
    merchant = await market.approved()
    agree = partial(market.merchants.agree, ROOT, merchant.id)
    end = period_end(Cycle.MONTH, clock.now(), market.services.programme.zone)
    within = contract_terms(cycle=Cycle.WEEK, valid_from=end - timedelta(milliseconds=1))
    refused = await market.refused(agree(within, key=KEY), InvalidInputError)
    assert isinstance(refused, InvalidInputError)
    assert refused.field == "validFrom"
    agreed = await agree(contract_terms(cycle=Cycle.WEEK), key=KEY)
    assert [contract.valid_from for contract in agreed.contracts] == [clock.now(), end]


async def test_who_only_applied_takes_nobodys_login(market: Market) -> None:
    await market.applied()
    await market.refused(market.merchants.add_member(CHEN, None, "li", OWNER, key=KEY), MerchantStageError)
    await market.applied("li", number=2)


async def test_a_cashier_leaves_but_removes_nobody_else(market: Market) -> None:
    await market.approved()
    for login in ("li", "zhao"):
        await market.merchants.add_member(CHEN, None, login, member_details(), key=market.key())
    for other in ("zhao", "chen"):
        await market.refused(market.merchants.remove_member(LI, None, other, key=KEY), ForbiddenError)
    await market.refused(market.merchants.change_member(LI, None, "li", OWNER, key=KEY), ForbiddenError)
    await market.merchants.remove_member(LI, None, "li", key=KEY)
    await market.refused(market.merchants.desk(LI), ForbiddenError)
    await market.refused(market.merchants.remove_member(CHEN, None, "chen", key=KEY), LastOwnerError)
    await market.applied("li", number=2)


async def test_a_closed_merchant_binds_nobody(market: Market) -> None:
    closed = await market.approved()
    await market.merchants.add_member(CHEN, None, "li", member_details(), key=KEY)
    await market.approved("wu", number=2)
    await market.merchants.close(RITA, closed.id, "over", key=KEY)
    await market.merchants.add_member(WU, None, "li", member_details(), key=KEY)
    anew = await market.applied("chen", number=3)
    assert (await market.merchants.owner_desk(CHEN)).merchant == anew


async def test_shops_are_opened_changed_and_closed(market: Market) -> None:
    merchant = await market.approved(shops=0)
    opened = await market.merchants.save_shop(CHEN, None, None, shop_details(), key=KEY)
    (shop,) = opened.shops
    assert (shop.name, shop.district, shop.hours) == (
        shop_details().name,
        shop_details().district,
        shop_details().hours,
    )
    moved = shop_details(name=Text("新店", "New shop"), lat_e6=-1, lon_e6=-2, hours=())
    changed = await market.merchants.save_shop(ROOT, merchant.id, shop.id, moved, key=KEY)
    (shop,) = changed.shops
    assert (shop.name.zh, shop.lat_e6, shop.lon_e6, shop.hours) == ("新店", -1, -2, ())
    assert (await market.merchants.desk(CHEN)).merchant == changed
    unknown = ShopId("shop_none")
    save = market.merchants.save_shop
    await market.refused(save(CHEN, None, unknown, shop_details(), key="key-0002"), UnknownShopError)
    await market.refused(save(CHEN, None, None, shop_details(district="玄武区"), key="key-0002"), InvalidInputError)
    await market.refused(market.merchants.remove_shop(CHEN, None, unknown, key=KEY), UnknownShopError)
    await market.merchants.add_member(CHEN, None, "li", member_details(shop=shop.id), key=KEY)
    await market.refused(market.merchants.remove_shop(CHEN, None, shop.id, key=KEY), ShopInUseError)
    await market.merchants.remove_member(CHEN, None, "li", key=KEY)
    assert (await market.merchants.remove_shop(CHEN, None, shop.id, key=KEY)).shops == ()


async def test_who_works_there_comes_and_goes_at_once(market: Market) -> None:
    merchant = await market.approved()
    shop = merchant.shops[0].id
    with pytest.raises(ForbiddenError):
        await market.merchants.desk(LI)
    await market.merchants.add_member(CHEN, None, "li", member_details(shop=shop), key=KEY)
    desk = await market.merchants.desk(LI)
    assert (desk.member.role, desk.member.shop, desk.is_owner) == (MemberRole.CASHIER, shop, False)
    with pytest.raises(ForbiddenError):
        await market.merchants.owner_desk(LI)
    await market.refused(
        market.merchants.add_member(CHEN, None, "li", member_details(), key="key-0002"), MemberTakenError
    )
    await market.merchants.change_member(CHEN, None, "li", OWNER, key=KEY)
    assert (await market.merchants.owner_desk(LI)).member.name == "小李"
    await market.merchants.remove_member(LI, None, "chen", key=KEY)
    with pytest.raises(ForbiddenError):
        await market.merchants.desk(CHEN)
    # Removed, even a key that took effect before opens nothing.
    await market.refused(market.merchants.remove_member(CHEN, None, "li", key=KEY), ForbiddenError)
    for change in (
        market.merchants.remove_member(LI, None, "li", key="key-0002"),
        market.merchants.change_member(LI, None, "li", member_details(), key=KEY),
    ):
        await market.refused(change, LastOwnerError)
    for change in (
        market.merchants.remove_member(LI, None, "chen", key="key-0002"),
        market.merchants.change_member(LI, None, "wu", OWNER, key=KEY),
    ):
        await market.refused(change, UnknownMemberError)
    members = await market.merchants.list_members(LI, merchant.id)
    assert [(member.id, member.is_active) for member in members] == [("chen", False), ("li", True)]
    # Who left may begin elsewhere, or come back.
    await market.applied("chen", number=2)
    assert [member.id for member in await market.merchants.list_members(LI, merchant.id)] == ["li"]
    await market.refused(
        market.merchants.add_member(LI, None, "chen", member_details(), key="key-0002"), MemberTakenError
    )


def owners_ask(market: Market, merchant: Merchant, who: Principal) -> list[Awaitable[Any]]:
    """All that owners may ask for."""
    merchants, name = market.merchants, merchant.id
    return [
        merchants.save_shop(who, name, None, shop_details(), key=KEY),
        merchants.remove_shop(who, name, merchant.shops[0].id, key=KEY),
        merchants.add_member(who, name, "zhao", member_details(), key=KEY),
        merchants.change_member(who, name, "li", OWNER, key=KEY),
        merchants.remove_member(who, name, "chen", key=KEY),
    ]


def staff_ask(market: Market, name: MerchantId, who: Principal) -> list[Awaitable[Any]]:
    """All that only staff may ask for."""
    merchants = market.merchants
    return [
        merchants.approve(who, name, contract_terms(), key=KEY),
        merchants.reject(who, name, "no", key=KEY),
        merchants.suspend(who, name, "no", key=KEY),
        merchants.resume(who, name, key=KEY),
        merchants.close(who, name, "no", key=KEY),
        merchants.agree(who, name, contract_terms(), key=KEY),
    ]


STRANGERS: list[tuple[Principal, type[DomainError]]] = [
    (LI, ForbiddenError),
    (WU, UnknownMerchantError),
    (works("nobody"), ForbiddenError),
    (citizen("chen"), ForbiddenError),
    (partner("chen"), ForbiddenError),
    (REVIEWER, ForbiddenError),
]


@pytest.fixture
async def merchant(market: Market) -> Merchant:
    """A merchant that sells, of the owner chen with the cashier li; wu owns another."""
    made = await market.approved()
    await market.merchants.add_member(CHEN, None, "li", member_details(), key=KEY)
    await market.approved("wu", number=2)
    return made


async def test_who_works_elsewhere_or_nowhere_changes_nothing(market: Market, merchant: Merchant) -> None:
    for who, error in STRANGERS:
        for asked in owners_ask(market, merchant, who):
            await market.refused(asked, error)
    for who in (CHEN, *(who for who, _ in STRANGERS)):
        for asked in staff_ask(market, merchant.id, who):
            await market.refused(asked, ForbiddenError)
    for who in (citizen("chen"), REVIEWER):
        await market.refused(market.merchants.register(who, application(3), key=KEY), ForbiddenError)


async def test_who_is_not_staff_reads_no_others_data(market: Market, merchant: Merchant) -> None:
    merchants = market.merchants
    page: Any = {"limit": 1, "older": None, "newer": None, "newest": True}
    for reader in (CHEN, citizen("chen"), works("nobody")):
        for read in (
            merchants.list_merchants(reader, None, **page),
            merchants.list_log(reader, None, **page),
            merchants.find_merchant(reader, merchant.id),
        ):
            with pytest.raises(ForbiddenError):
                await read
    for stranger in (LI, WU, citizen("chen")):
        with pytest.raises(ForbiddenError):
            await merchants.list_members(stranger, merchant.id)
    for stranger in (citizen("chen"), REVIEWER, works("nobody")):
        with pytest.raises(ForbiddenError):
            await merchants.desk(stranger)
    assert await merchants.find_merchant(ROOT, MerchantId("mer_none")) is None


async def test_an_unknown_merchant_is_told_to_staff(market: Market) -> None:
    unknown = MerchantId("mer_none")
    for asked in (
        market.merchants.suspend(ROOT, unknown, "no", key=KEY),
        market.merchants.save_shop(ROOT, None, None, shop_details(), key=KEY),
        market.merchants.add_member(ROOT, unknown, "li", member_details(), key=KEY),
    ):
        await market.refused(asked, UnknownMerchantError)


async def test_the_same_key_again_answers_and_changes_nothing_and_another_payload_conflicts(
    services: Services, market: Market
) -> None:
    merchants = market.merchants

    async def once(ask: Callable[..., Awaitable[Any]], *given: Any, other: tuple[Any, ...]) -> Any:
        first, before = await ask(*given, key=KEY), await dump(services)
        assert await ask(*given, key=KEY) == first
        with pytest.raises(IdempotencyConflictError):
            await ask(*other, key=KEY)
        assert await dump(services) == before
        return first

    merchant = await once(merchants.register, CHEN, application(), other=(CHEN, application(2)))
    name = merchant.id
    merchant = await once(
        merchants.approve, ROOT, name, contract_terms(), other=(ROOT, name, contract_terms(commission_bps=1))
    )
    await once(merchants.agree, ROOT, name, contract_terms(), other=(ROOT, name, contract_terms(budget_fen=1)))
    merchant = await once(
        merchants.save_shop, CHEN, None, None, shop_details(), other=(CHEN, None, None, shop_details(address="x"))
    )
    assert len(merchant.shops) == 1
    shop = merchant.shops[0].id
    await once(
        merchants.add_member, CHEN, None, "li", member_details(), other=(CHEN, None, "li", member_details(name="x"))
    )
    await once(merchants.change_member, CHEN, None, "li", OWNER, other=(CHEN, None, "li", member_details()))
    await once(merchants.remove_member, CHEN, None, "li", other=(CHEN, None, "chen"))
    await once(merchants.remove_shop, CHEN, None, shop, other=(CHEN, None, ShopId("other")))
    await once(merchants.suspend, ROOT, name, "a reason", other=(ROOT, name, "another"))
    other = await market.approved("wu", number=2, shops=0)
    await once(merchants.resume, ROOT, name, other=(ROOT, other.id))
    await once(merchants.close, ROOT, name, "a reason", other=(ROOT, name, "another"))
    assert len(await entries(market)) == 13


async def test_a_key_has_8_to_64_printable_characters(market: Market) -> None:
    for key in ("short", "x" * 65, "with blank"):
        await market.refused(market.merchants.register(CHEN, application(), key=key), InvalidInputError)


async def test_the_log_is_a_chain_of_what_was_before_and_after(market: Market) -> None:
    merchant = await market.approved()
    await market.merchants.add_member(CHEN, None, "li", member_details(), key=KEY)
    await market.merchants.suspend(RITA, merchant.id, "complaints", key=KEY)
    await market.approved("wu", number=2)
    page: Any = {"older": None, "newer": None, "newest": True}
    log = await market.merchants.list_log(ROOT, merchant.id, limit=10, **page)
    assert [entry.step for entry in log] == ["SUSPEND", "ADD_MEMBER", "APPROVE", "SAVE_SHOP", "REGISTER"]
    assert [entry.before for entry in log] == [*(entry.after for entry in log[1:]), None]
    assert len({entry.after for entry in log}) == 5
    assert {entry.merchant for entry in log} == {merchant.id}
    everything = await market.merchants.list_log(ROOT, None, limit=100, **page)
    assert len(everything) == 8


async def test_merchants_are_listed_by_stage_and_page(market: Market, clock: ManualClock) -> None:
    made = []
    for number in range(5):
        clock.advance(timedelta(minutes=number % 2))
        made.append(await market.applied(f"m{number}", number=number))
    rejected = await market.merchants.reject(ROOT, made[2].id, "no", key=KEY)
    order = sorted(
        (rejected if merchant.id == rejected.id else merchant for merchant in made),
        key=lambda merchant: (merchant.registered_at, merchant.id),
        reverse=True,
    )
    names = [merchant.id for merchant in order]

    async def page(stage: MerchantStage | None = None, **given: Any) -> list[str]:
        asked = {"limit": 2, "older": None, "newer": None, "newest": True, **given}
        return [merchant.id for merchant in await market.merchants.list_merchants(ROOT, stage, **asked)]

    places = [(merchant.registered_at, merchant.id) for merchant in order]
    assert await page(limit=9) == names
    assert await page(older=places[1]) == names[2:4]
    assert await page(newer=places[3], newest=False) == names[1:3]
    assert await page(MerchantStage.REJECTED) == [rejected.id]
    assert await page(MerchantStage.APPROVED) == []
