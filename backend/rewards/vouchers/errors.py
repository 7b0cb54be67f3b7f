"""Why something cannot be done with a voucher."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal, Text


@dataclass(eq=False)
class InsufficientPointsError(Refusal):
    """The citizen has fewer points to spend than the offer costs."""

    needed: int
    available: int

    code = "INSUFFICIENT_POINTS"
    zh = "积分不足：需要 {needed}，可用 {available}"
    en = "not enough points: {needed} needed, {available} available"


@dataclass(eq=False)
class TooManyVouchersError(Refusal):
    """The citizen has as many vouchers open as one may."""

    limit: int

    code = "TOO_MANY_VOUCHERS"
    zh = "未使用的券不能超过 {limit} 张"
    en = "at most {limit} vouchers may be open at once"


@dataclass(eq=False)
class UnknownVoucherError(Refusal):
    """There is no such voucher, or none that the caller may see."""

    code = "UNKNOWN_VOUCHER"
    zh = "没有这张券"
    en = "there is no such voucher"


@dataclass(eq=False)
class CodeInvalidError(Refusal):
    """No voucher of this merchant has that code: mistyped, forged, or another merchant's. Which, is not told."""

    code = "CODE_INVALID"
    zh = "券码无效，请核对后重试"
    en = "the code is not valid here; check it and try again"


@dataclass(eq=False)
class CodeExpiredError(Refusal):
    """The code was shown too long ago: a photograph of it, or a phone whose clock is wrong."""

    code = "CODE_EXPIRED"
    zh = "券码已过期，请顾客刷新后出示"
    en = "the code is out of date; ask for the one shown now"


@dataclass(eq=False)
class CodeReplayedError(Refusal):
    """The very code was used before; the phone shows another within half a minute."""

    code = "CODE_REPLAYED"
    zh = "该券码已使用过一次，请稍后出示新码"
    en = "this code was used before; wait for the next one"


@dataclass(eq=False)
class TooManyCodesError(Refusal):
    """The counter tried as many wrong codes as one may in a while."""

    limit: int
    minutes: int

    code = "TOO_MANY_CODES"
    zh = "{minutes} 分钟内错误券码超过 {limit} 次，请稍后再试"
    en = "more than {limit} wrong codes in {minutes} minutes; wait a while"


@dataclass(eq=False)
class TypedCodeLockedError(Refusal):
    """Too many wrong codes were typed for this voucher; from now on only its QR code counts."""

    limit: int

    code = "TYPED_CODE_LOCKED"
    zh = "该券输入码已错误 {limit} 次，请扫描二维码核销"
    en = "{limit} wrong codes were typed for this voucher; scan its QR code"


@dataclass(eq=False)
class WrongVoucherStatusError(Refusal):
    """The voucher does not stand so that this could be done: used up, cancelled, refunded."""

    status: str
    standing: Text
    since: Text

    code = "VOUCHER_STATUS"
    zh = "该券{standing}（{since}），不能执行该操作"
    en = "the voucher is {standing} ({since}), so this cannot be done"


@dataclass(eq=False)
class VoucherExpiredError(Refusal):
    """The voucher's time is over; its points are back."""

    code = "VOUCHER_EXPIRED"
    zh = "该券已过期，积分已退回"
    en = "the voucher has expired and its points are returned"


@dataclass(eq=False)
class ItemsExceededError(Refusal):
    """More items are to be handed over than are left."""

    asked: int
    left: int

    code = "ITEMS_EXCEEDED"
    zh = "只剩 {left} 份可核销，不足 {asked} 份"
    en = "{left} items are left, not {asked}"


@dataclass(eq=False)
class WrongShopError(Refusal):
    """The voucher is for other shops of the merchant."""

    code = "WRONG_SHOP"
    zh = "该券不适用于本门店"
    en = "the voucher is not for this shop"


@dataclass(eq=False)
class RefundExceededError(Refusal):
    """More is to be refunded than is left of what was captured."""

    asked: int
    left: int

    code = "REFUND_EXCEEDED"
    zh = "可退 {left} 积分，不足 {asked}"
    en = "{left} points can be refunded, not {asked}"


@dataclass(eq=False)
class RefundClosedError(Refusal):
    """The offer's policy allows no refund, or no longer."""

    days: int

    code = "REFUND_CLOSED"
    zh = "已超出退款期限（{days} 天）"
    en = "the time for refunds is over ({days} days)"


@dataclass(eq=False)
class DisputeExistsError(Refusal):
    """The voucher was disputed before; staff decide once."""

    stage: str

    code = "DISPUTE_EXISTS"
    zh = "该券已有争议记录（{stage}）"
    en = "the voucher has been disputed already ({stage})"


@dataclass(eq=False)
class NoDisputeError(Refusal):
    """There is no open dispute to decide."""

    code = "NO_DISPUTE"
    zh = "该券没有待处理的争议"
    en = "no dispute of this voucher is open"


@dataclass(eq=False)
class DisputeClosedError(Refusal):
    """The last capture is too long ago to be disputed."""

    days: int

    code = "DISPUTE_CLOSED"
    zh = "核销超过 {days} 天，不能再提出争议"
    en = "what was captured more than {days} days ago cannot be disputed"
