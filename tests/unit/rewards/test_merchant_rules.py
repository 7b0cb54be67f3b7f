"""What merchants, contracts, shops and members may be; which step follows on which stage; owners never run out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backend.kernel.errors import InvalidInputError, Text
from backend.kernel.units import Ratio
from backend.rewards.merchants import rules
from backend.rewards.merchants.errors import (
    LastOwnerError,
    MerchantStageError,
    ShopInUseError,
    UnknownMemberError,
    UnknownShopError,
)
from backend.rewards.merchants.model import (
    Contract,
    Cycle,
    Hours,
    MemberRole,
    Merchant,
    MerchantStage,
    MerchantStep,
    ShopId,
)
from tests.unit.rewards.trading import (
    DISTRICT,
    NOON,
    application,
    contract_terms,
    credit_code,
    firm,
    member,
    member_details,
    merchant,
    shop,
    shop_details,
)

DISTRICTS = frozenset({DISTRICT})
ZONE = ZoneInfo("Asia/Shanghai")
SECOND = timedelta(seconds=1)


def test_an_application_is_stored_with_its_code_in_capitals() -> None:
    assert rules.require_application(application(credit_code=f" {credit_code().lower()} ")) == application()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name.zh", {"name": Text("", "Tea")}),
        ("name.zh", {"name": Text("茶" * 41, "Tea")}),
        ("name.en", {"name": Text("茶", "t" * 81)}),
        ("name.en", {"name": Text("茶", "two\nlines")}),
        ("legalName", {"legal_name": " "}),
        ("legalName", {"legal_name": "茶" * 101}),
        ("contactName", {"contact_name": "\u202e"}),
        ("contactPhone", {"contact_phone": "123"}),
        ("contactPhone", {"contact_phone": "call me"}),
        ("creditCode", {"credit_code": "91350100M000100Y44"}),
        ("owner", {"owner": "no blanks"}),
    ],
)
def test_an_application_names_the_field_that_cannot_be(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.require_application(application(**changes))
    assert refused.value.field == field


def test_the_first_contract_begins_when_it_is_agreed_and_the_next_is_numbered_on() -> None:
    begun = merchant(contracts=())
    first = rules.next_contract(begun, contract_terms(budget_fen=1), NOON, ZONE)
    assert (first.number, first.valid_from, first.budget_fen) == (1, NOON, 1)
    second = rules.next_contract(
        merchant(contracts=(first,)), contract_terms(rate=Ratio(3, 2), valid_from=NOON + SECOND), NOON, ZONE
    )
    assert (second.number, second.valid_from, second.rate) == (2, NOON + SECOND, Ratio(3, 2))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("rate", {"rate": Ratio(0, 1)}),
        ("rate", {"rate": Ratio(10**6 + 1, 1)}),
        ("rate", {"rate": Ratio(1, 10**6 + 1)}),
        ("commissionBps", {"commission_bps": -1}),
        ("commissionBps", {"commission_bps": 5_001}),
        ("budgetFen", {"budget_fen": 0}),
        ("budgetFen", {"budget_fen": 10**13 + 1}),
        ("validFrom", {"valid_from": NOON - SECOND}),
        ("validFrom", {"valid_from": NOON + timedelta(days=366) + SECOND}),
    ],
)
def test_a_contract_names_the_field_that_cannot_be(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.next_contract(merchant(), contract_terms(**changes), NOON, ZONE)
    assert refused.value.field == field


def test_a_contract_does_not_begin_before_the_one_agreed_last() -> None:
    later = rules.next_contract(merchant(), contract_terms(valid_from=NOON + 2 * SECOND), NOON, ZONE)
    held = merchant(contracts=(*merchant().contracts, later))
    with pytest.raises(InvalidInputError) as refused:
        rules.next_contract(held, contract_terms(valid_from=NOON + SECOND), NOON, ZONE)
    assert refused.value.field == "validFrom"
    # At the same moment, it takes its place.
    instead = rules.next_contract(held, contract_terms(commission_bps=0, valid_from=NOON + 2 * SECOND), NOON, ZONE)
    agreed = merchant(contracts=(*held.contracts, instead)).contract_at(NOON + 2 * SECOND)
    assert agreed == instead


def next_begin(held: Merchant, cycle: Cycle, begins: datetime | None, now: datetime = NOON) -> datetime:
    """When a contract of that cycle begins, asked for then or at no moment in particular."""
    return rules.next_contract(held, contract_terms(cycle=cycle, valid_from=begins), now, ZONE).valid_from


def with_later(held: Merchant, cycle: Cycle, begins: datetime) -> Merchant:
    """The merchant with a further contract."""
    later: Contract = rules.next_contract(held, contract_terms(cycle=cycle, valid_from=begins), NOON, ZONE)
    return merchant(contracts=(*held.contracts, later))


# Local midnights: 1 December 2026 is a Tuesday, 7 December a Monday.
DECEMBER, MONDAY = (datetime(2026, month, day, 16, tzinfo=UTC) for month, day in ((11, 30), (12, 6)))


def test_a_contract_of_another_cycle_begins_where_a_period_ends() -> None:
    monthly = merchant()
    assert next_begin(monthly, Cycle.MONTH, None) == NOON
    assert next_begin(monthly, Cycle.WEEK, None) == DECEMBER
    assert next_begin(monthly, Cycle.WEEK, DECEMBER) == DECEMBER
    # The very end of a period is as good as any.
    assert next_begin(monthly, Cycle.WEEK, None, now=DECEMBER) == DECEMBER
    for begins in (NOON, DECEMBER - SECOND, DECEMBER + SECOND):
        with pytest.raises(InvalidInputError) as refused:
            next_begin(monthly, Cycle.WEEK, begins)
        assert refused.value.field == "validFrom"
        earliest = "2026-12-01T00:00:00+08:00" if begins < DECEMBER else "2027-01-01T00:00:00+08:00"
        assert refused.value.problem == (
            f"更改结算周期，最早自 {earliest} 起",
            f"with another cycle it may begin at {earliest}",
        )
    weekly = with_later(monthly, Cycle.WEEK, DECEMBER)
    assert next_begin(weekly, Cycle.WEEK, DECEMBER + SECOND) == DECEMBER + SECOND
    assert next_begin(weekly, Cycle.MONTH, MONDAY) == MONDAY
    with pytest.raises(InvalidInputError):
        next_begin(weekly, Cycle.MONTH, DECEMBER + SECOND)


def test_the_cycle_that_bounds_is_that_in_force_just_before() -> None:
    weekly = with_later(merchant(), Cycle.WEEK, DECEMBER)
    # Not begun yet, it is replaced; begun this moment, it is in force.
    assert next_begin(weekly, Cycle.MONTH, DECEMBER) == DECEMBER
    with pytest.raises(InvalidInputError):
        next_begin(weekly, Cycle.MONTH, DECEMBER, now=DECEMBER)
    assert next_begin(weekly, Cycle.MONTH, None, now=DECEMBER) == MONDAY


@pytest.mark.parametrize(
    ("hours", "accepted"),
    [
        ((), True),
        ((Hours(1, 0, 1_440),), True),
        ((Hours(1, 600, 700), Hours(1, 700, 800)), True),
        ((Hours(1, 600, 701), Hours(1, 700, 800)), False),
        ((Hours(1, 600, 701), Hours(2, 700, 800)), True),
        # Past midnight, written as two.
        ((Hours(5, 1_200, 1_440), Hours(6, 0, 120)), True),
        ((Hours(5, 1_200, 120),), False),
        ((Hours(0, 600, 700),), False),
        ((Hours(8, 600, 700),), False),
        ((Hours(1, -1, 700),), False),
        ((Hours(1, 600, 1_441),), False),
        ((Hours(1, 600, 600),), False),
        (tuple(Hours(1 + place % 7, place, place + 1) for place in range(29)), False),
    ],
)
def test_hours_lie_in_a_week_and_do_not_overlap(hours: tuple[Hours, ...], *, accepted: bool) -> None:
    if accepted:
        assert rules.require_hours(reversed(hours)) == tuple(sorted(hours))
    else:
        with pytest.raises(InvalidInputError):
            rules.require_hours(hours)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name.zh", {"name": Text("", "x")}),
        ("address", {"address": ""}),
        ("district", {"district": "玄武区"}),
        ("latE6", {"lat_e6": 90_000_001}),
        ("latE6", {"lat_e6": -90_000_001}),
        ("lonE6", {"lon_e6": 180_000_001}),
        ("lonE6", {"lon_e6": -180_000_001}),
        ("phone", {"phone": "x"}),
        ("hours", {"hours": (Hours(1, 2, 1),)}),
    ],
)
def test_a_shop_names_the_field_that_cannot_be(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.require_shop(shop_details(**changes), ShopId("shop_1"), DISTRICTS)
    assert refused.value.field == field


def test_a_merchant_has_a_hundred_shops() -> None:
    full = firm(shops=tuple(shop(f"shop_{number}") for number in range(100)))
    assert len(rules.with_shop(full, shop("shop_7", address="新址"), is_new=False).merchant.shops) == 100
    with pytest.raises(InvalidInputError):
        rules.with_shop(full, shop("shop_100"), is_new=True)
    with pytest.raises(UnknownShopError):
        rules.with_shop(full, shop("shop_100"), is_new=False)


def test_a_shop_is_closed_once_nobody_at_work_is_bound_to_it() -> None:
    bound = member("li", MemberRole.CASHIER, shop=ShopId("shop_1"))
    with pytest.raises(ShopInUseError) as refused:
        rules.without_shop(firm(member(), bound), ShopId("shop_1"))
    assert refused.value.by == ("账号 li", "the login li")
    gone = member("li", MemberRole.CASHIER, shop=ShopId("shop_1"), is_active=False)
    assert rules.without_shop(firm(member(), gone), ShopId("shop_1")).merchant.shops == ()
    with pytest.raises(UnknownShopError):
        rules.without_shop(firm(), ShopId("shop_2"))


def test_a_merchant_keeps_an_owner() -> None:
    alone = firm(member(), member("li", MemberRole.CASHIER))
    with pytest.raises(LastOwnerError):
        rules.without_member(alone, "chen")
    with pytest.raises(LastOwnerError):
        rules.with_member(alone, "chen", member_details(), is_new=False)
    two = rules.with_member(alone, "li", member_details(role=MemberRole.OWNER), is_new=False)
    left = rules.without_member(two, "chen")
    assert left.member("chen") is None
    assert [(who.id, who.role, who.is_active) for who in left.members] == [
        ("chen", MemberRole.OWNER, False),
        ("li", MemberRole.OWNER, True),
    ]
    with pytest.raises(UnknownMemberError):
        rules.without_member(left, "chen")
    with pytest.raises(UnknownMemberError):
        rules.with_member(left, "chen", member_details(), is_new=False)


def test_only_a_cashier_is_bound_to_a_shop_of_the_merchant() -> None:
    for role, place, error in (
        (MemberRole.OWNER, "shop_1", InvalidInputError),
        (MemberRole.CASHIER, "shop_9", UnknownShopError),
    ):
        with pytest.raises(error):
            rules.with_member(firm(), "li", member_details(role=role, shop=ShopId(place)), is_new=True)
    bound = rules.with_member(firm(), "li", member_details(shop=ShopId("shop_1")), is_new=True).member("li")
    assert bound is not None
    assert bound.shop == "shop_1"
    for login, name in (("no blanks", "李"), ("li", "")):
        with pytest.raises(InvalidInputError):
            rules.with_member(firm(), login, member_details(name=name), is_new=True)
    full = firm(*(member(f"m{number}") for number in range(500)))
    with pytest.raises(InvalidInputError):
        rules.with_member(full, "li", member_details(), is_new=True)


# Which steps are possible in each stage: existence is settled before, permission and the rest after.
POSSIBLE = {
    MerchantStage.APPLIED: {"APPROVE", "REJECT"},
    MerchantStage.APPROVED: {"SUSPEND", "CLOSE", "AGREE", "ADD_MEMBER"},
    MerchantStage.REJECTED: set[str](),
    MerchantStage.SUSPENDED: {"RESUME", "CLOSE", "AGREE", "ADD_MEMBER"},
    MerchantStage.CLOSED: set[str](),
}
PREMISES = {"SAVE_SHOP", "REMOVE_SHOP", "CHANGE_MEMBER"}


@pytest.mark.parametrize("stage", MerchantStage)
def test_a_step_follows_on_its_stages_alone(stage: MerchantStage) -> None:
    working = stage in {MerchantStage.APPLIED, MerchantStage.APPROVED, MerchantStage.SUSPENDED}
    expected = {*POSSIBLE[stage], "REMOVE_MEMBER", *(PREMISES if working else ())}
    passed = set()
    for step in rules.FROM_STAGES:
        try:
            rules.require_stage(merchant(stage=stage), step)
        except MerchantStageError:
            continue
        passed.add(step.value)
    assert passed == expected


def test_a_step_that_does_not_follow_names_merchant_and_stage() -> None:
    with pytest.raises(MerchantStageError) as refused:
        rules.require_stage(merchant(), MerchantStep.APPROVE)
    assert (refused.value.merchant, refused.value.stage) == ("mer_1", "APPROVED")


def test_a_step_leads_to_its_stage() -> None:
    assert {step.value: stage.value for step, stage in rules.TO_STAGE.items()} == {
        "APPROVE": "APPROVED",
        "REJECT": "REJECTED",
        "SUSPEND": "SUSPENDED",
        "RESUME": "APPROVED",
        "CLOSE": "CLOSED",
    }
    suspended = rules.moved(firm(), MerchantStep.SUSPEND, "complaints").merchant
    assert (suspended.stage, suspended.reason) == (MerchantStage.SUSPENDED, "complaints")
    assert rules.moved(firm(reason="x"), MerchantStep.RESUME, None).merchant.reason is None
