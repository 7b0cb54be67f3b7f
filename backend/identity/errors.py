"""Why identity refuses."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import AccessError, Refusal, Text


@dataclass(eq=False)
class UnauthenticatedError(AccessError):
    """No valid token came with the request."""

    problem: Text

    code = "UNAUTHENTICATED"
    zh = "请先登录（{problem}）"
    en = "sign in first ({problem})"


@dataclass(eq=False)
class ForbiddenError(AccessError):
    """This principal may not do this."""

    what: Text

    code = "FORBIDDEN"
    zh = "无权执行该操作：{what}"
    en = "not permitted: {what}"


@dataclass(eq=False)
class AlreadyBoundError(Refusal):
    """The external id of this source belongs to another citizen."""

    source: str

    code = "ALREADY_BOUND"
    zh = "该卡号或账号在 {source} 已绑定其他市民"
    en = "this card or account of {source} is bound to another citizen"


@dataclass(eq=False)
class SourceTakenError(Refusal):
    """The source belongs to another partner."""

    source: str

    code = "SOURCE_TAKEN"
    zh = "数据来源 {source} 已属于其他合作方"
    en = "the source {source} belongs to another partner"
