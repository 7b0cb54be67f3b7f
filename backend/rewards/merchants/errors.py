"""Why a merchant's business is refused."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal, Text


@dataclass(eq=False)
class UnknownMerchantError(Refusal):
    """There is no such merchant, or none that the caller may see."""

    merchant: str

    code = "UNKNOWN_MERCHANT"
    zh = "没有商户 {merchant}"
    en = "there is no merchant {merchant}"


@dataclass(eq=False)
class MerchantStageError(Refusal):
    """The merchant does not stand so that this could be done."""

    merchant: str
    stage: str

    code = "MERCHANT_STAGE"
    zh = "商户 {merchant} 当前状态为 {stage}，不能执行该操作"
    en = "merchant {merchant} is {stage}, so this cannot be done"


@dataclass(eq=False)
class CreditCodeTakenError(Refusal):
    """Another merchant is registered under that unified social credit code."""

    credit_code: str

    code = "CREDIT_CODE_TAKEN"
    zh = "统一社会信用代码 {credit_code} 已登记"
    en = "a merchant is registered under {credit_code} already"


@dataclass(eq=False)
class MemberTakenError(Refusal):
    """The login works at a merchant already; one login has one counter."""

    member: str

    code = "MEMBER_TAKEN"
    zh = "账号 {member} 已属于某个商户"
    en = "the login {member} belongs to a merchant already"


@dataclass(eq=False)
class UnknownMemberError(Refusal):
    """Nobody of that login works there."""

    member: str

    code = "UNKNOWN_MEMBER"
    zh = "该商户没有账号 {member}"
    en = "nobody with the login {member} works there"


@dataclass(eq=False)
class LastOwnerError(Refusal):
    """A merchant keeps one owner at least."""

    code = "LAST_OWNER"
    zh = "商户至少要保留一名店主"
    en = "a merchant keeps at least one owner"


@dataclass(eq=False)
class UnknownShopError(Refusal):
    """The merchant has no such shop."""

    shop: str

    code = "UNKNOWN_SHOP"
    zh = "该商户没有门店 {shop}"
    en = "the merchant has no shop {shop}"


@dataclass(eq=False)
class OwnApprovalError(Refusal):
    """Whoever registered or asked for it cannot approve it: two people look at it."""

    code = "OWN_APPROVAL"
    zh = "不能审批自己提交的内容"
    en = "what one submitted oneself, another approves"


@dataclass(eq=False)
class ShopInUseError(Refusal):
    """Somebody is bound to the shop's counter, or an offer that has not ended names it; that is changed first."""

    shop: str
    by: Text

    code = "SHOP_IN_USE"
    zh = "门店 {shop} 仍在使用：{by}，请先调整"
    en = "the shop {shop} is in use by {by}; change that first"
