"""Intake rules, pure: which requests are well formed, who may record them, which physical act each stands for."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backend.actions import errors
from backend.actions.model import EVERYBODY
from backend.identity.errors import ForbiddenError
from backend.identity.model import NAME, NAME_RULE, PrincipalKind
from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import InvalidInputError, Text
from backend.kernel.ids import derived_id
from backend.kernel.units import INT64_MAX
from backend.rules.model import EvidenceTier, Scope

if TYPE_CHECKING:
    from backend.actions.model import Action, ActionRequest
    from backend.identity.model import Principal
    from backend.kernel.errors import DomainError
    from backend.kernel.ids import CitizenId
    from backend.rules.model import CapKey, Kind

MAX_BATCH = 500
CLOCK_SKEW = timedelta(minutes=5)
MAX_ATTRIBUTES = 20
TOKEN_RULE = Text("1–128 个字符，不含控制字符", "1–128 characters, none of them control characters")
ATTRIBUTE_RULE = Text(
    "名称形如 station_from，值为不超过 200 个字符的文本", "names like station_from, texts of at most 200 characters"
)
# No control characters, and no half of a surrogate pair: such a text has no UTF-8.
TOKEN = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")
ATTRIBUTE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
ATTRIBUTE_VALUE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,200}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[t ]\d\d:\d\d(:\d\d(\.\d+)?)?(z|[+-]\d\d:?\d\d)")
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{8,64}")
# What the word of each principal is worth: an operator's record, a citizen's device, a citizen's word.
BEST_TIER = {PrincipalKind.PARTNER: EvidenceTier.OPERATOR, PrincipalKind.STAFF: EvidenceTier.OPERATOR}
USUAL_TIER = {**BEST_TIER, PrincipalKind.CITIZEN: EvidenceTier.DECLARED}


@dataclass(frozen=True, slots=True)
class Window:
    """The programme's intake window."""

    oldest: timedelta


def check_idempotency_key(key: str) -> None:
    """Refuse a key that cannot be one.

    Raises:
        InvalidInputError: not 8–64 printable ASCII characters.
    """
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInputError("idempotencyKey", Text("8–64 个可打印 ASCII 字符", "8–64 printable ASCII characters"))


def check_request(
    request: ActionRequest, kind: Kind | None, *, window: Window, now: datetime, backfill: bool
) -> DomainError | None:
    """The first thing wrong with the request itself, in the order of the fields; None where it can be recorded."""
    if kind is None:
        return errors.UnknownKindError(request.kind[:64])
    if request.unit is not kind.unit:
        return errors.WrongUnitError(kind.code, request.unit, kind.unit)
    if not 1 <= request.quantity <= kind.maximum:
        return errors.QuantityOutOfRangeError(max(min(request.quantity, INT64_MAX), -INT64_MAX), 1, kind.maximum)
    return _check_times(request, window=window, now=now, backfill=backfill) or _check_required(request, kind)


def _check_times(request: ActionRequest, *, window: Window, now: datetime, backfill: bool) -> DomainError | None:
    for field, moment in (("occurredAt", request.occurred_at), ("endedAt", request.ended_at)):
        if moment is None:
            continue
        try:
            is_future = to_milliseconds(moment) > now + CLOCK_SKEW
        except (ValueError, OverflowError):
            return InvalidInputError(field, Text("须为带时区偏移的时间", "a date and time with offset"))
        if is_future:
            return errors.InFutureError(moment.isoformat())
    if request.ended_at is not None and request.ended_at < request.occurred_at:
        return errors.EndBeforeStartError()
    if not backfill and request.occurred_at < now - window.oldest:
        return errors.TooOldError(window.oldest.days)
    return None


def check_texts(request: ActionRequest) -> DomainError | None:
    """What in the request's texts no record may hold, whatever its kind."""
    if not NAME.fullmatch(request.source):
        return InvalidInputError("source", NAME_RULE)
    texts = (("ref", request.ref), ("externalId", request.external_id), ("citizen", request.citizen))
    for field, text in (*texts, ("evidence", request.evidence)):
        if text is not None and not TOKEN.fullmatch(text):
            return InvalidInputError(field, TOKEN_RULE)
    if len(request.attributes) > MAX_ATTRIBUTES:
        return InvalidInputError("attributes", Text(f"最多 {MAX_ATTRIBUTES} 项", f"at most {MAX_ATTRIBUTES}"))
    for name, value in request.attributes.items():
        is_text = isinstance(value, str)  # a JSON object may hold anything
        if not is_text or not ATTRIBUTE_NAME.fullmatch(name) or not ATTRIBUTE_VALUE.fullmatch(value):
            return InvalidInputError("attributes", ATTRIBUTE_RULE)
    return None


def _check_required(request: ActionRequest, kind: Kind) -> DomainError | None:
    for name in kind.required_attributes:
        if not request.attributes.get(name):
            return InvalidInputError("attributes", Text(f"缺少 {name}", f"{name} is required"))
    return None


def check_authority(principal: Principal, request: ActionRequest, owner: str | None) -> DomainError | None:
    """Whether the principal may record from this source (``owner``: the partner it belongs to) for this citizen.

    A citizen records for themself, from a source that is no partner's; a partner from its own sources; an administrator
    from any.
    """
    if principal.is_admin:
        return None
    if principal.kind is PrincipalKind.PARTNER:
        return None if owner == principal.id else _foreign_source(request)
    if principal.kind is not PrincipalKind.CITIZEN:
        return ForbiddenError(Text("记录低碳行为", "recordAction"))
    if owner is not None:
        return _foreign_source(request)
    if request.external_id is not None or request.citizen not in (None, principal.citizen):
        return ForbiddenError(Text("他人的账户", "another citizen's account"))
    return None


def _foreign_source(request: ActionRequest) -> ForbiddenError:
    return ForbiddenError(Text(f"数据来源 {request.source}", f"source {request.source}"))


def tier_of(principal: Principal, request: ActionRequest) -> EvidenceTier:
    """The evidence tier the record gets: what is asked, but never above what the principal's word is worth.

    A citizen's device counts only with a reference to what it measured.
    """
    if request.tier is None:
        return USUAL_TIER[principal.kind]
    best = EvidenceTier.DEVICE if request.evidence else EvidenceTier.DECLARED
    return min(request.tier, BEST_TIER.get(principal.kind, best))


def cap_total_id(citizen: CitizenId, key: CapKey) -> str:
    """Id of the counter for a cap group and period: the citizen's own, or the one that everybody draws on."""
    return derived_id("cap", counter_owner(citizen, key), key.group, key.period_key)


def counter_owner(citizen: CitizenId, key: CapKey) -> CitizenId:
    """Whose counter the citizen's act draws on."""
    return citizen if key.scope is Scope.CITIZEN else EVERYBODY


def _normal(value: str) -> str:
    """One spelling of a value: width, case and blanks do not make another act, nor does a moment's offset."""
    text = unicodedata.normalize("NFKC", value).strip().casefold()
    if MOMENT.fullmatch(text):
        with contextlib.suppress(ValueError, OverflowError):
            return to_milliseconds(datetime.fromisoformat(text.upper())).isoformat()
    return text


def fingerprints(action: Action, kind: Kind) -> tuple[str, ...]:
    """Ids of the claims that stand for this physical act: its source reference, and each identity its kind declares."""
    claims = [derived_id("claim", "ref", action.source, action.ref)]
    for names in kind.claims:
        values = [_normal(action.attributes.get(name, "")) for name in names]
        if all(values):
            claims.append(derived_id("claim", "act", *names, *values))
    return tuple(claims)
