"""Why an offer is refused, or a redemption of it."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal, Text


@dataclass(eq=False)
class UnknownOfferError(Refusal):
    """There is no such offer, or none that the caller may see."""

    offer: str

    code = "UNKNOWN_OFFER"
    zh = "没有兑换项目 {offer}"
    en = "there is no offer {offer}"


@dataclass(eq=False)
class OfferStageError(Refusal):
    """The offer is not so far, or further, than this needs."""

    offer: str
    stage: str

    code = "OFFER_STAGE"
    zh = "兑换项目 {offer} 当前状态为 {stage}，不能执行该操作"
    en = "offer {offer} is {stage}, so this cannot be done"


@dataclass(eq=False)
class StaffPausedError(Refusal):
    """The programme's staff paused the offer, so its merchant cannot resume it."""

    offer: str

    code = "STAFF_PAUSED"
    zh = "兑换项目 {offer} 由工作人员暂停，仅工作人员可恢复"
    en = "staff paused the offer {offer}, so only staff resume it"


@dataclass(eq=False)
class OfferClosedError(Refusal):
    """The offer cannot be redeemed now: not begun, over, paused, outside its hours, or its merchant is suspended."""

    why: Text

    code = "OFFER_CLOSED"
    zh = "当前不可兑换：{why}"
    en = "this cannot be redeemed now: {why}"


@dataclass(eq=False)
class NotInAudienceError(Refusal):
    """The offer is for others: another district, or newcomers."""

    who: Text

    code = "NOT_IN_AUDIENCE"
    zh = "仅限{who}兑换"
    en = "this is only for {who}"


@dataclass(eq=False)
class LimitReachedError(Refusal):
    """The citizen has redeemed as many units as one may."""

    limit: int
    period: Text

    code = "LIMIT_REACHED"
    zh = "每人{period}限兑 {limit} 份"
    en = "at most {limit} may be redeemed {period}"


@dataclass(eq=False)
class SoldOutError(Refusal):
    """Fewer units are left than were asked for, mostly none."""

    offer: str
    left: int

    code = "SOLD_OUT"
    zh = "已兑完（剩余 {left} 份）"
    en = "sold out ({left} left)"


@dataclass(eq=False)
class BudgetSpentError(Refusal):
    """What the programme pays this merchant in one period is spent."""

    code = "BUDGET_SPENT"
    zh = "该商户本期兑换额度已用完"
    en = "this merchant's budget of the period is spent"


@dataclass(eq=False)
class PictureError(Refusal):
    """The bytes are no picture that can be shown."""

    problem: Text

    code = "NOT_A_PICTURE"
    zh = "不是可用的图片：{problem}"
    en = "not a usable picture: {problem}"


@dataclass(eq=False)
class PictureTooLargeError(Refusal):
    """The picture has more bytes or pixels than one may have."""

    limit: int
    unit: Text

    code = "PICTURE_TOO_LARGE"
    zh = "图片不能超过 {limit} {unit}"
    en = "a picture has at most {limit} {unit}"


@dataclass(eq=False)
class StaleOfferError(Refusal):
    """The offer was changed since it was looked at; what is approved is what was seen."""

    offer: str
    version: int

    code = "STALE_OFFER"
    zh = "兑换项目 {offer} 已被修改（现为第 {version} 版），请重新查看"
    en = "offer {offer} has changed (version {version} now); look at it again"
