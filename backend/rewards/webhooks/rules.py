"""Which addresses may be called, how a call is signed, when it is tried again, when an endpoint is given up. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from backend.identity.rules import require_note
from backend.kernel.crypto import canonical_json
from backend.kernel.errors import InvalidInputError, Text
from backend.rewards.webhooks.model import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend.rewards.webhooks.model import Endpoint, EndpointDraft, Event, Fault

MAX_ENDPOINTS = 10
MAX_URL = 500
MAX_DESCRIPTION = 100
ROTATION_OVERLAP = timedelta(hours=24)
DELIVERED_KEPT_FOR = timedelta(days=30)
DEAD_KEPT_FOR = timedelta(days=90)
UNSENT_KEPT_FOR = timedelta(days=7)
# The schedule that the Standard Webhooks specification recommends, and one more day.
BACKOFF = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
MAX_JITTER_PERMILLE = 200
LONGEST_RETRY_AFTER = timedelta(hours=24)
TESTED_AGAIN_AFTER = timedelta(minutes=1)
GIVEN_UP_AFTER = timedelta(days=5)
# Longer than the longest pause between two tries: after so long without any, failures are a new row.
ROW_ENDS_AFTER = timedelta(hours=36)
SUBSCRIBABLE = frozenset(EventType) - {EventType.WEBHOOK_TEST}

OK, REDIRECT, GONE, TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE = 200, 300, 410, 429, 503
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HTTPS_PORT = 443
_PORTS = {"https": _HTTPS_PORT, "http": 80}
_FIRST_FREE_PORT = 1024
_URL = re.compile(r"[!-~]+")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?")
_SECONDS = re.compile(r"[0-9]{1,20}")
# Of clouds, and reachable like any public address.
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
# All that is given out of version 6; the rest is for local use, of the past or of the future.
_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart; ``path`` with its query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the header ``Host`` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a try brought: a status, perhaps with a ``Retry-After`` as it was sent, or the reason why there is none."""

    status: int | None = None
    fault: Fault | None = None
    retry_after: str | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver took the delivery."""
        return self.status is not None and OK <= self.status < REDIRECT


def require_draft(draft: EndpointDraft, *, allow_local: bool) -> None:
    """Refuse an endpoint that could not be called or that wants nothing.

    Raises:
        InvalidInputError: the URL, the types or the description (at most 100 characters).
    """
    read_url(draft.url, allow_local=allow_local)
    if not draft.types or not draft.types <= SUBSCRIBABLE:
        names = ", ".join(sorted(SUBSCRIBABLE))
        raise InvalidInputError("types", Text(f"至少一个：{names}", f"one or more of {names}"))
    if draft.description:
        require_note("description", draft.description, limit=MAX_DESCRIPTION)


def read_url(url: str, *, allow_local: bool) -> Target:
    """The URL taken apart; ``allow_local`` lets development call http and this machine.

    What name and address lead to is checked again by ``may_call`` whenever it is called.

    Raises:
        InvalidInputError: not https, not absolute, too long, or with credentials, a fragment, or a port of the system.
    """
    if len(url) > MAX_URL or not _URL.fullmatch(url) or set("\\#") & set(url):
        raise _url_error(f"1–{MAX_URL} 个 ASCII 字符，不含片段", f"1–{MAX_URL} ASCII characters without a fragment")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        if parts.netloc.rpartition("@")[1]:
            raise _url_error("不能包含用户名或密码", "no user or password")
    except ValueError as error:
        raise _url_error("网址格式不正确", "not a URL") from error
    if parts.scheme != "https" and not (allow_local and parts.scheme == "http"):
        raise _url_error("须以 https:// 开头", "https only")
    if port != _HTTPS_PORT and port < _FIRST_FREE_PORT and not (allow_local and port == _PORTS["http"]):
        raise _url_error("端口须为 443 或不小于 1024", "port 443, or 1024 and above")
    if not _may_name(host, allow_local=allow_local):
        raise _url_error("主机须为公网域名或公网地址", "the host must be a public name or address")
    return Target(parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def may_call(address: str, *, allow_local: bool) -> bool:
    """Whether an address is the public internet's; with ``allow_local`` this machine's, too."""
    try:
        found = _embedded(ipaddress.ip_address(address))
    except ValueError:
        return False
    if allow_local and found.is_loopback:
        return True
    if isinstance(found, ipaddress.IPv6Address) and found not in _GIVEN_OUT:
        return False
    kept = found.is_multicast or found.is_reserved or found.is_link_local or found.is_private or found.is_unspecified
    return found.is_global and not kept and found not in _METADATA


def body_of(event: Event) -> str:
    """The JSON that is sent, byte for byte the same at every try."""
    return canonical_json({"type": event.type.value, "timestamp": event.at, "data": dict(event.data)}).decode()


def show_secret(secret: bytes) -> str:
    """The secret as the receiver configures it."""
    return f"whsec_{base64.b64encode(secret).decode()}"


def headers_of(event: str, now: datetime, body: str, secrets: Iterable[bytes]) -> dict[str, str]:
    """The three headers of Standard Webhooks, with a signature by each secret."""
    timestamp = str((now - _EPOCH) // timedelta(seconds=1))
    signed = f"{event}.{timestamp}.{body}".encode()
    macs = (base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets)
    return {
        "webhook-id": event,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{mac}" for mac in macs),
    }


def read_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """How long the receiver asks to be left alone (``Retry-After``: seconds or a date), a day at most."""
    if text is None:
        return None
    if _SECONDS.fullmatch(text):
        return min(timedelta(seconds=min(int(text), LONGEST_RETRY_AFTER.days * 86_400)), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)


def next_due(attempts: int, answer: Answer, now: datetime, jitter_permille: int) -> datetime | None:
    """When a delivery that has failed ``attempts`` times is due again; None where it is dead."""
    if attempts > len(BACKOFF) or answer.status == GONE:
        return None
    wait = BACKOFF[attempts - 1] * (1_000 + jitter_permille) // 1_000
    if answer.status in {TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE}:
        wait = max(wait, read_retry_after(answer.retry_after, now) or wait)
    return now + wait


def row_of_failures(endpoint: Endpoint, now: datetime) -> datetime:
    """When the row of failures began that one at this moment belongs to."""
    goes_on = endpoint.failed_at is not None and now - endpoint.failed_at <= ROW_ENDS_AFTER
    return endpoint.failing_since if goes_on and endpoint.failing_since else now


def _url_error(zh: str, en: str) -> InvalidInputError:
    return InvalidInputError("url", Text(zh, en))


def _may_name(host: str, *, allow_local: bool) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")
        # A name that ends in a number would be read as an address by some resolvers: 127.1, 0x7f.1, 2130706433.
        is_name = bool(_NAME.fullmatch(host)) and len(host) <= 253 and not re.match("0[xX]|[0-9]+$", last[2])  # noqa: PLR2004 - RFC 1035
        return is_name and (bool(last[1]) or allow_local)
    return may_call(host, allow_local=allow_local)


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
