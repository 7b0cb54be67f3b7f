"""What merchants, contracts, shops and members may be, and which step follows which. Pure.

Whatever is written in full is checked here and nowhere else; what comes back is the value in its stored form.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.identity.rules import NOTE, require_name, require_note
from backend.kernel.credit_codes import is_credit_code
from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.merchants.cycles import period_end
from backend.rewards.merchants.errors import (
    LastOwnerError,
    MerchantStageError,
    ShopInUseError,
    UnknownMemberError,
    UnknownShopError,
)
from backend.rewards.merchants.model import (
    BASIS_POINTS,
    Contract,
    Firm,
    Member,
    MemberRole,
    MerchantApplication,
    MerchantStage,
    MerchantStep,
    Shop,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.rewards.merchants.model import (
        ContractTerms,
        Cycle,
        Hours,
        MemberDetails,
        Merchant,
        ShopDetails,
        ShopId,
    )

PHONE = re.compile(r"\+?[0-9][0-9 -]{3,18}[0-9]")
MAX_ZH, MAX_EN = 40, 80
MAX_LEGAL_NAME = 100
MAX_PERSON = 40
MAX_ADDRESS = 120
MAX_REASON = 500
MAX_RATE_PART = 10**6
MAX_COMMISSION_BPS = BASIS_POINTS // 2
MAX_BUDGET_FEN = 10**13
MAX_AHEAD = timedelta(days=366)
MILLISECOND = timedelta(milliseconds=1)
MAX_CONTRACTS = 100
MAX_SHOPS = 100
# Those who left count too: their names stand in what they captured.
MAX_MEMBERS = 500
MAX_HOURS = 28
MAX_LAT_E6, MAX_LON_E6 = 90 * 10**6, 180 * 10**6
WEEK = range(1, 8)
DAY_MINUTES = 1_440

AGREED = frozenset({MerchantStage.APPROVED, MerchantStage.SUSPENDED})
WORKING = AGREED | {MerchantStage.APPLIED}
FROM_STAGES: Mapping[MerchantStep, frozenset[MerchantStage]] = {
    MerchantStep.APPROVE: frozenset({MerchantStage.APPLIED}),
    MerchantStep.REJECT: frozenset({MerchantStage.APPLIED}),
    MerchantStep.SUSPEND: frozenset({MerchantStage.APPROVED}),
    MerchantStep.RESUME: frozenset({MerchantStage.SUSPENDED}),
    MerchantStep.CLOSE: AGREED,
    MerchantStep.AGREE: AGREED,
    MerchantStep.SAVE_SHOP: WORKING,
    MerchantStep.REMOVE_SHOP: WORKING,
    # A login has one merchant: nobody takes others' logins by merely applying.
    MerchantStep.ADD_MEMBER: AGREED,
    MerchantStep.CHANGE_MEMBER: WORKING,
    # Whoever must lose access loses it, whatever became of the merchant.
    MerchantStep.REMOVE_MEMBER: frozenset(MerchantStage),
}
TO_STAGE: Mapping[MerchantStep, MerchantStage] = {
    MerchantStep.APPROVE: MerchantStage.APPROVED,
    MerchantStep.REJECT: MerchantStage.REJECTED,
    MerchantStep.SUSPEND: MerchantStage.SUSPENDED,
    MerchantStep.RESUME: MerchantStage.APPROVED,
    MerchantStep.CLOSE: MerchantStage.CLOSED,
}
STAFF_STEPS = frozenset({*TO_STAGE, MerchantStep.AGREE, MerchantStep.APPROVE_OFFER, MerchantStep.RETURN_OFFER})


def require_stage(merchant: Merchant, step: MerchantStep) -> None:
    """Refuse a step that does not follow on where the merchant stands.

    Raises:
        MerchantStageError: it does not.
    """
    if merchant.stage not in FROM_STAGES[step]:
        raise MerchantStageError(merchant.id, merchant.stage)


def require_words(field: str, words: Text, *, most_zh: int = MAX_ZH, most_en: int = MAX_EN) -> None:
    """Refuse a phrase of one line that lacks a language or is too long.

    Raises:
        InvalidInputError: so it is, or with characters nobody sees.
    """
    require_note(f"{field}.zh", words.zh, limit=most_zh)
    require_note(f"{field}.en", words.en, limit=most_en)


def require_passage(field: str, words: Text, *, most: int) -> None:
    """Refuse a text of any number of lines that is too long; it may be empty.

    Raises:
        InvalidInputError: so it is, or with characters nobody sees.
    """
    for language, text in words._asdict().items():
        lines = [line for line in text.split("\n") if line]
        if len(text) > most or not all(NOTE.fullmatch(line) for line in lines):
            problem = Text(
                f"最多 {most} 个字符，不含控制字符", f"at most {most} characters, none of them control characters"
            )
            raise InvalidInputError(f"{field}.{language}", problem)


def require_between(field: str, value: int, least: int, most: int) -> None:
    """Refuse a number out of its range.

    Raises:
        InvalidInputError: so it is.
    """
    if not least <= value <= most:
        raise InvalidInputError(field, Text(f"{least}–{most}", f"{least}–{most}"))


def require_phone(field: str, phone: str) -> None:
    """Refuse what cannot be called.

    Raises:
        InvalidInputError: not 5–20 digits, blanks and dashes.
    """
    if not PHONE.fullmatch(phone):
        raise InvalidInputError(field, Text("5–20 位数字，可含空格与横线", "5–20 digits, blanks and dashes"))


def require_application(given: MerchantApplication) -> MerchantApplication:
    """The application in its stored form.

    Raises:
        InvalidInputError: a field of it cannot be.
    """
    require_words("name", given.name)
    require_note("legalName", given.legal_name, limit=MAX_LEGAL_NAME)
    require_note("contactName", given.contact_name, limit=MAX_PERSON)
    require_phone("contactPhone", given.contact_phone)
    code = given.credit_code.strip().upper()
    if not is_credit_code(code):
        problem = Text("18 位统一社会信用代码，校验位须正确", "18 characters, the last of which checks the others")
        raise InvalidInputError("creditCode", problem)
    if given.owner is not None:
        require_name("owner", given.owner)
    return dataclasses.replace(given, credit_code=code)


def next_contract(merchant: Merchant, terms: ContractTerms, now: datetime, zone: ZoneInfo) -> Contract:
    """The contract that follows on those the merchant has.

    With another cycle it begins where a period of the cycle before ends, for each period has its own budget; where no
    beginning is given, at the first such end from now on.

    Raises:
        InvalidInputError: a rate of zero, a commission above a half, a budget of zero, or a beginning in the past,
            before that of the last contract, beyond a year, or within a period of another cycle.
    """
    if not 0 < terms.rate.numerator <= MAX_RATE_PART or terms.rate.denominator > MAX_RATE_PART:
        raise InvalidInputError(
            "rate", Text(f"须大于零，分子分母不超过 {MAX_RATE_PART}", f"above zero, its terms up to {MAX_RATE_PART}")
        )
    require_between("commissionBps", terms.commission_bps, 0, MAX_COMMISSION_BPS)
    if terms.budget_fen is not None:
        require_between("budgetFen", terms.budget_fen, 1, MAX_BUDGET_FEN)
    begins = now if terms.valid_from is None else terms.valid_from
    last = merchant.contracts[-1].valid_from if merchant.contracts else now
    if not max(now, last) <= begins <= now + MAX_AHEAD:
        problem = Text(
            f"不早于现在与上一份合同的生效时间，且在 {MAX_AHEAD.days} 天之内",
            f"not before now or the beginning of the last contract, and within {MAX_AHEAD.days} days",
        )
        raise InvalidInputError("validFrom", problem)
    earliest = _cycle_change(merchant, terms.cycle, begins, now, zone)
    if terms.valid_from is not None and begins != earliest:
        local = earliest.astimezone(zone).isoformat()
        raise InvalidInputError(
            "validFrom", Text(f"更改结算周期，最早自 {local} 起", f"with another cycle it may begin at {local}")
        )
    if len(merchant.contracts) >= MAX_CONTRACTS:
        raise InvalidInputError("contract", Text(f"最多 {MAX_CONTRACTS} 份", f"at most {MAX_CONTRACTS}"))
    return Contract(
        number=len(merchant.contracts) + 1,
        rate=terms.rate,
        commission_bps=terms.commission_bps,
        cycle=terms.cycle,
        budget_fen=terms.budget_fen,
        valid_from=earliest,
    )


def _cycle_change(merchant: Merchant, cycle: Cycle, begins: datetime, now: datetime, zone: ZoneInfo) -> datetime:
    """The first moment from ``begins`` on at which a contract of that cycle may begin."""
    # One that has not begun yet and would begin at the same moment is replaced, and bounds nothing.
    before = merchant.contract_at(max(now, begins - MILLISECOND))
    if before is None or before.cycle is cycle:
        return begins
    return period_end(before.cycle, begins - MILLISECOND, zone)


def require_hours(hours: Iterable[Hours]) -> tuple[Hours, ...]:
    """Opening hours in the order of the week.

    Raises:
        InvalidInputError: they overlap, are too many, or no hours of a week.
    """
    ordered = tuple(sorted(hours))
    for one in ordered:
        if one.weekday not in WEEK or not 0 <= one.from_minute < one.to_minute <= DAY_MINUTES:
            problem = Text("星期 1–7，分钟 0–1440，开始早于结束", "weekday 1–7, minutes 0–1440, from before to")
            raise InvalidInputError("hours", problem)
    for one, other in itertools.pairwise(ordered):
        if one.weekday == other.weekday and other.from_minute < one.to_minute:
            raise InvalidInputError("hours", Text("营业时间重叠", "they overlap"))
    if len(ordered) > MAX_HOURS:
        raise InvalidInputError("hours", Text(f"最多 {MAX_HOURS} 段", f"at most {MAX_HOURS}"))
    return ordered


def require_shop(details: ShopDetails, shop: ShopId, districts: frozenset[str]) -> Shop:
    """The shop of that id with these details.

    Raises:
        InvalidInputError: a field of it cannot be.
    """
    require_words("name", details.name)
    require_note("address", details.address, limit=MAX_ADDRESS)
    if details.district not in districts:
        raise InvalidInputError("district", Text("不是本项目的区县", "not a district of this programme"))
    require_between("latE6", details.lat_e6, -MAX_LAT_E6, MAX_LAT_E6)
    require_between("lonE6", details.lon_e6, -MAX_LON_E6, MAX_LON_E6)
    if details.phone is not None:
        require_phone("phone", details.phone)
    return Shop(
        id=shop,
        name=details.name,
        address=details.address,
        district=details.district,
        lat_e6=details.lat_e6,
        lon_e6=details.lon_e6,
        phone=details.phone,
        hours=require_hours(details.hours),
    )


def with_shop(firm: Firm, shop: Shop, *, is_new: bool) -> Firm:
    """The firm with that shop, new or in the place of what it was.

    Raises:
        UnknownShopError: there is none to change.
        InvalidInputError: it has as many shops as one may.
    """
    shops = {known.id: known for known in firm.merchant.shops}
    if not is_new and shop.id not in shops:
        raise UnknownShopError(shop.id)
    shops[shop.id] = shop
    if len(shops) > MAX_SHOPS:
        raise InvalidInputError("shop", Text(f"最多 {MAX_SHOPS} 家", f"at most {MAX_SHOPS}"))
    return _with_merchant(firm, shops=tuple(shops.values()))


def without_shop(firm: Firm, shop: ShopId) -> Firm:
    """The firm without that shop.

    Raises:
        UnknownShopError: it has none of that id.
        ShopInUseError: somebody who works there is bound to it.
    """
    left = tuple(known for known in firm.merchant.shops if known.id != shop)
    if len(left) == len(firm.merchant.shops):
        raise UnknownShopError(shop)
    for member in firm.members:
        if member.is_active and member.shop == shop:
            raise ShopInUseError(shop, Text(f"账号 {member.id}", f"the login {member.id}"))
    return _with_merchant(firm, shops=left)


def with_member(firm: Firm, login: str, details: MemberDetails, *, is_new: bool) -> Firm:
    """The firm with somebody who works there, new or with other duties.

    Raises:
        InvalidInputError: login, name or shop cannot be, or as many work and worked there as one may note.
        UnknownMemberError: there is nobody to change.
        UnknownShopError: the merchant has no such shop.
        LastOwnerError: no owner would be left.
    """
    require_name("login", login)
    require_note("name", details.name, limit=MAX_PERSON)
    if not is_new and firm.member(login) is None:
        raise UnknownMemberError(login)
    if details.shop is not None and details.role is not MemberRole.CASHIER:
        raise InvalidInputError("shop", Text("仅收银员可绑定门店", "only a cashier is bound to a shop"))
    if details.shop is not None and details.shop not in {shop.id for shop in firm.merchant.shops}:
        raise UnknownShopError(details.shop)
    members = {known.id: known for known in firm.members}
    members[login] = Member(
        id=login,
        merchant=firm.merchant.id,
        name=details.name,
        role=details.role,
        shop=details.shop,
        is_active=True,
    )
    if len(members) > MAX_MEMBERS:
        raise InvalidInputError("login", Text(f"最多 {MAX_MEMBERS} 个账号", f"at most {MAX_MEMBERS} logins"))
    return _with_owner(Firm(firm.merchant, tuple(members.values())))


def without_member(firm: Firm, login: str) -> Firm:
    """The firm where nobody works under that login any more.

    Raises:
        UnknownMemberError: nobody does.
        LastOwnerError: no owner would be left.
    """
    if firm.member(login) is None:
        raise UnknownMemberError(login)
    members = tuple(
        dataclasses.replace(member, is_active=False) if member.id == login else member for member in firm.members
    )
    return _with_owner(Firm(firm.merchant, members))


def moved(firm: Firm, step: MerchantStep, reason: str | None) -> Firm:
    """The firm where that step leads."""
    return _with_merchant(firm, stage=TO_STAGE[step], reason=reason)


def with_contract(firm: Firm, contract: Contract) -> Firm:
    """The firm with one more contract."""
    return _with_merchant(firm, contracts=(*firm.merchant.contracts, contract))


def _with_merchant(firm: Firm, **changes: object) -> Firm:
    return dataclasses.replace(firm, merchant=dataclasses.replace(firm.merchant, **changes))  # type: ignore[arg-type]


def _with_owner(firm: Firm) -> Firm:
    if not any(member.is_active and member.role is MemberRole.OWNER for member in firm.members):
        raise LastOwnerError
    return firm
