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


@dataclass(eq=False)
class AlreadyInFamilyError(Refusal):
    """A citizen belongs to one family at most."""

    code = "ALREADY_IN_FAMILY"
    zh = "您已加入一个家庭组，请先退出"
    en = "you belong to a family already; leave it first"


@dataclass(eq=False)
class NoFamilyError(Refusal):
    """The citizen belongs to no family."""

    code = "NO_FAMILY"
    zh = "您尚未加入家庭组"
    en = "you belong to no family"


@dataclass(eq=False)
class FamilyFullError(Refusal):
    """The family has as many members as one may have."""

    limit: int

    code = "FAMILY_FULL"
    zh = "家庭组最多 {limit} 人，名额已满"
    en = "a family has at most {limit} members, and this one is full"


@dataclass(eq=False)
class InvitationInvalidError(Refusal):
    """No invitation has that code: it never had, is used or over, or whoever gave it has left. Which, is not told."""

    code = "INVITATION_INVALID"
    zh = "邀请码无效、已使用或已过期"
    en = "the invitation code is wrong, used or expired"


@dataclass(eq=False)
class TooManyInvitationsError(Refusal):
    """The citizen made as many invitations today as one may."""

    limit: int

    code = "TOO_MANY_INVITATIONS"
    zh = "每天最多生成 {limit} 个邀请码"
    en = "at most {limit} invitations may be made a day"


@dataclass(eq=False)
class TooManyTriesError(Refusal):
    """The citizen tried as many invitation codes today as one may."""

    limit: int

    code = "TOO_MANY_TRIES"
    zh = "每天最多尝试 {limit} 次邀请码"
    en = "at most {limit} invitation codes may be tried a day"


@dataclass(eq=False)
class NotTransferableError(Refusal):
    """In this programme citizens do not give points to one another."""

    code = "NOT_TRANSFERABLE"
    zh = "本项目的积分不可转赠"
    en = "points cannot be given away in this programme"


@dataclass(eq=False)
class NotInFamilyError(Refusal):
    """Giver and receiver do not belong to the same family."""

    code = "NOT_IN_FAMILY"
    zh = "对方与您不在同一个家庭组"
    en = "that citizen is not in your family"
