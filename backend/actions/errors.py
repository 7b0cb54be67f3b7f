"""Why intake refuses to record an action; what settling decides later is a reason (``reasons``), not an error."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class UnknownKindError(Refusal):
    """No such kind of action."""

    kind: str

    code = "UNKNOWN_KIND"
    zh = "未知的低碳行为：{kind}"
    en = "unknown kind of action: {kind}"


@dataclass(eq=False)
class WrongUnitError(Refusal):
    """The kind is counted in another unit."""

    kind: str
    unit: str
    expected: str

    code = "WRONG_UNIT"
    zh = "{kind} 应以 {expected} 计量，而不是 {unit}"
    en = "{kind} is counted in {expected}, not in {unit}"


@dataclass(eq=False)
class QuantityOutOfRangeError(Refusal):
    """The quantity is zero, negative or absurd for one act."""

    quantity: int
    minimum: int
    maximum: int

    code = "QUANTITY_OUT_OF_RANGE"
    zh = "数量 {quantity} 超出范围（单次 {minimum}–{maximum}）"
    en = "quantity {quantity} is out of range ({minimum}–{maximum} for one act)"


@dataclass(eq=False)
class InFutureError(Refusal):
    """The act is said to happen or end in the future."""

    moment: str

    code = "IN_FUTURE"
    zh = "时间 {moment} 在未来"
    en = "the time {moment} is in the future"


@dataclass(eq=False)
class TooOldError(Refusal):
    """The act is older than the programme's intake window."""

    days: int

    code = "TOO_OLD"
    zh = "该行为发生已超过 {days} 天，不再受理"
    en = "the act is older than {days} days"


@dataclass(eq=False)
class EndBeforeStartError(Refusal):
    """The act ends before it starts."""

    code = "END_BEFORE_START"
    zh = "结束时间早于开始时间"
    en = "the act ends before it starts"


@dataclass(eq=False)
class NotBoundError(Refusal):
    """No citizen stands behind the external id, or the citizen is not bound to the source."""

    source: str

    code = "NOT_BOUND"
    zh = "该卡号、账号或市民未与 {source} 绑定"
    en = "this card, account or citizen is not bound to {source}"


@dataclass(eq=False)
class UnknownCitizenError(Refusal):
    """No such citizen is registered."""

    citizen: str

    code = "UNKNOWN_CITIZEN"
    zh = "未登记的市民：{citizen}"
    en = "no citizen {citizen} is registered"


@dataclass(eq=False)
class ActionConflictError(Refusal):
    """The same source reference of this citizen was recorded with other content."""

    source: str
    ref: str

    code = "CONFLICT"
    zh = "记录 {source}/{ref} 已存在且内容不同"
    en = "the record {source}/{ref} exists with other content"


@dataclass(eq=False)
class BatchTooLargeError(Refusal):
    """Too many actions, or none, in one call."""

    size: int
    limit: int

    code = "BATCH_SIZE"
    zh = "一次需提交 1–{limit} 条记录，收到 {size} 条"
    en = "one call takes 1–{limit} actions, not {size}"


@dataclass(eq=False)
class UnknownActionError(Refusal):
    """No such action is recorded."""

    action: str

    code = "UNKNOWN_ACTION"
    zh = "没有低碳行为记录 {action}"
    en = "there is no action {action}"


@dataclass(eq=False)
class NotInReviewError(Refusal):
    """The action waits for nobody's decision."""

    status: str

    code = "NOT_IN_REVIEW"
    zh = "该行为处于 {status} 状态，无需人工核实"
    en = "the action is {status}; it waits for nobody's decision"


@dataclass(eq=False)
class AlreadyReviewedError(Refusal):
    """Somebody decided on the action before."""

    decision: str

    code = "ALREADY_REVIEWED"
    zh = "该行为已由他人核实（{decision}）"
    en = "somebody decided on the action already ({decision})"


@dataclass(eq=False)
class NotApprovableError(Refusal):
    """Approval alone would leave the action where it is."""

    reason: str

    code = "NOT_APPROVABLE"
    zh = "因 {reason} 待核实的行为不能直接通过：请先更正规则或数据，再重新核算（RETRY），或予以驳回"
    en = "an action waiting for {reason} is not approved: correct the rule or the record and RETRY, or reject it"


@dataclass(eq=False)
class UnknownRestatementError(Refusal):
    """There is no such restatement."""

    restatement: str

    code = "UNKNOWN_RESTATEMENT"
    zh = "没有重算任务 {restatement}"
    en = "there is no restatement {restatement}"


@dataclass(eq=False)
class NotProposedError(Refusal):
    """Only a restatement that is estimated and waits for approval can be approved."""

    stage: str

    code = "NOT_PROPOSED"
    zh = "重算任务处于 {stage} 阶段，不能审批"
    en = "the restatement is {stage}; it does not wait for approval"


@dataclass(eq=False)
class OwnRestatementError(Refusal):
    """Who proposed a restatement does not approve it."""

    code = "OWN_RESTATEMENT"
    zh = "提出重算者不能审批，须由他人审批"
    en = "who proposed a restatement cannot approve it; another person must"
