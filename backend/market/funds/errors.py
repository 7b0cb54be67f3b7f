"""Why business with enterprises and money is refused."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class UnknownEnterpriseError(Refusal):
    """There is no such enterprise."""

    enterprise: str

    code = "UNKNOWN_ENTERPRISE"
    zh = "没有企业 {enterprise}"
    en = "there is no enterprise {enterprise}"


@dataclass(eq=False)
class EnterpriseStageError(Refusal):
    """The enterprise does not stand so that this could be done."""

    enterprise: str
    stage: str

    code = "ENTERPRISE_STAGE"
    zh = "企业 {enterprise} 当前状态为 {stage}，不能执行该操作"
    en = "enterprise {enterprise} is {stage}, so this cannot be done"


@dataclass(eq=False)
class EnterpriseRegisteredError(Refusal):
    """An enterprise that was not rejected has that unified social credit code."""

    credit_code: str

    code = "ENTERPRISE_REGISTERED"
    zh = "统一社会信用代码 {credit_code} 的企业已登记"
    en = "an enterprise is registered under {credit_code} already"


@dataclass(eq=False)
class OwnProposalError(Refusal):
    """Whoever proposed it does not decide on it: two people look at it."""

    code = "OWN_PROPOSAL"
    zh = "须由提交人以外的人员决定"
    en = "somebody other than who proposed it decides on it"


@dataclass(eq=False)
class OwnInterestError(Refusal):
    """Staff who are the citizen concerned neither record that citizen's money nor decide on it."""

    code = "OWN_INTEREST"
    zh = "不能经办涉及本人资金或收益的业务"
    en = "nobody handles money or benefits of their own"


@dataclass(eq=False)
class UnknownDepositError(Refusal):
    """There is no such deposit."""

    deposit: str

    code = "UNKNOWN_DEPOSIT"
    zh = "没有入金记录 {deposit}"
    en = "there is no deposit {deposit}"


@dataclass(eq=False)
class DepositStageError(Refusal):
    """The deposit was decided on already."""

    deposit: str
    stage: str

    code = "DEPOSIT_STAGE"
    zh = "入金记录 {deposit} 当前状态为 {stage}，不能再审批"
    en = "deposit {deposit} is {stage} and cannot be decided on again"


@dataclass(eq=False)
class DuplicateReferenceError(Refusal):
    """That line of the bank's statement was recorded already."""

    reference: str

    code = "DUPLICATE_REFERENCE"
    zh = "银行流水号 {reference} 已记录"
    en = "the bank reference {reference} was recorded already"


@dataclass(eq=False)
class UnknownPayoutError(Refusal):
    """There is no such payout, or it is somebody else's."""

    payout: str

    code = "UNKNOWN_PAYOUT"
    zh = "没有提现申请 {payout}"
    en = "there is no payout {payout}"


@dataclass(eq=False)
class PayoutStageError(Refusal):
    """The payout does not stand so that this could be done."""

    payout: str
    stage: str

    code = "PAYOUT_STAGE"
    zh = "提现申请 {payout} 当前状态为 {stage}，不能执行该操作"
    en = "payout {payout} is {stage}, so this cannot be done"


@dataclass(eq=False)
class TooManyPayoutsError(Refusal):
    """The owner has as many payouts under way as one may."""

    limit: int

    code = "TOO_MANY_PAYOUTS"
    zh = "同时处理中的提现申请不能超过 {limit} 笔"
    en = "at most {limit} payouts may be under way at once"


@dataclass(eq=False)
class ReferenceChangedError(Refusal):
    """By another line of the bank's statement than was looked at: the record was corrected meanwhile."""

    reference: str

    code = "REFERENCE_CHANGED"
    zh = "转账记录已更改，当前流水号为 {reference}，请核对后再审批"
    en = "the record of the transfer was changed; its reference is {reference} now, look at it again"
