"""Webhooks' rules: which URLs and addresses, how signed, when tried again, when given up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.errors import InvalidInputError, Language
from backend.rewards.webhooks import rules
from backend.rewards.webhooks.events import Event, EventType, event_item, from_payload, to_payload
from backend.rewards.webhooks.model import Endpoint, EndpointDraft, EndpointId, EndpointStage, Fault
from backend.rewards.webhooks.rules import Answer, Target

NOW = datetime(2026, 11, 21, 8, 0, 12, 345000, tzinfo=UTC)
EVENT = Event("evt_1", EventType.VOUCHER_CAPTURED, "m1", NOW, {"voucher": "vou_1", "points": 300, "title": "早餐"})


def draft(**changes: object) -> EndpointDraft:
    """An endpoint as its owner gives it."""
    given: dict[str, object] = {"url": "https://shop.example/hook", "types": frozenset({EventType.VOUCHER_CAPTURED})}
    return EndpointDraft(**{**given, **changes})  # type: ignore[arg-type]


def failed(since: datetime | None, last: datetime | None) -> Endpoint:
    """An endpoint with a row of failures."""
    return Endpoint(
        id=EndpointId("whe_1"),
        merchant="m1",
        slot=0,
        url="https://shop.example/hook",
        types=frozenset(EventType),
        description="",
        stage=EndpointStage.ACTIVE,
        reason=None,
        sealed="",
        previous=None,
        failing_since=since,
        failed_at=last,
        tested_at=None,
        made_at=NOW,
    )


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://shop.example", Target("https", "shop.example", 443, "/")),
        ("https://Shop.Example:443/a%20b?x=1&y=/", Target("https", "shop.example", 443, "/a%20b?x=1&y=/")),
        ("https://a_b.xn--fiqs8s:8443/h", Target("https", "a_b.xn--fiqs8s", 8443, "/h")),
        ("HTTPS://shop.example:1024?q", Target("https", "shop.example", 1024, "/?q")),
        ("https://8.8.8.8/", Target("https", "8.8.8.8", 443, "/")),
        ("https://[2001:4860:4860::8888]:65535/", Target("https", "2001:4860:4860::8888", 65535, "/")),
    ],
)
def test_a_public_url_is_taken_apart(url: str, target: Target) -> None:
    assert rules.read_url(url, allow_local=False) == target


def test_the_host_header_names_a_port_only_where_it_is_not_the_usual() -> None:
    urls = ("https://a.b/", "https://a.b:8443/", "https://[2001:4860:4860::8888]:8443/", "http://a.b:80/")
    assert [rules.read_url(url, allow_local=True).authority for url in urls] == [
        "a.b",
        "a.b:8443",
        "[2001:4860:4860::8888]:8443",
        "a.b",
    ]


NO_URLS = [
    ("", "1–500 ASCII characters without a fragment"),
    ("https://shop.example/#here", "1–500 ASCII characters without a fragment"),
    ("https://shop.example/\n", "1–500 ASCII characters without a fragment"),
    ("https://shop.example/a b", "1–500 ASCII characters without a fragment"),
    ("https://商店.example/", "1–500 ASCII characters without a fragment"),
    ("https://shop.example\\@evil.example/", "1–500 ASCII characters without a fragment"),
    ("https://shop.example/".ljust(501, "a"), "1–500 ASCII characters without a fragment"),
    ("https://u:p@shop.example/", "no user or password"),
    ("https://@shop.example/", "no user or password"),
    ("https://[::1/", "not a URL"),
    ("https://shop.example:99999/", "not a URL"),
    ("https://shop.example:x/", "not a URL"),
    ("http://shop.example/", "https only"),
    ("ftp://shop.example/", "https only"),
    ("//shop.example/", "https only"),
    ("shop.example", "https only"),
    ("https://shop.example:22/", "port 443, or 1024 and above"),
    ("https://shop.example:80/", "port 443, or 1024 and above"),
    ("https://shop.example:1023/", "port 443, or 1024 and above"),
    ("https:///hook", "the host must be a public name or address"),
    ("https://localhost/", "the host must be a public name or address"),
    ("https://intranet./", "the host must be a public name or address"),
    ("https://-a.example/", "the host must be a public name or address"),
    ("https://a..example/", "the host must be a public name or address"),
    (f"https://{'a' * 64}.example/", "the host must be a public name or address"),
    ("https://127.0.0.1/", "the host must be a public name or address"),
    ("https://127.1/", "the host must be a public name or address"),
    ("https://1.0x7f000001/", "the host must be a public name or address"),
    ("https://2130706433/", "the host must be a public name or address"),
    ("https://10.0.0.1:8443/", "the host must be a public name or address"),
    ("https://[::1]/", "the host must be a public name or address"),
    ("https://[::ffff:10.0.0.1]/", "the host must be a public name or address"),
    ("https://[fe80::1%25eth0]/", "the host must be a public name or address"),
]


@pytest.mark.parametrize(("url", "problem"), NO_URLS)
def test_a_url_that_may_not_be_called_is_refused_with_the_reason(url: str, problem: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.read_url(url, allow_local=False)
    assert refused.value.message(Language.EN) == f"field url is invalid: {problem}"


def test_development_may_call_http_and_this_machine_and_no_more() -> None:
    for url in ("http://127.0.0.1:8080/x", "http://localhost/", "https://localhost:8443/", "http://[::1]:9000/"):
        assert rules.read_url(url, allow_local=True).path in {"/x", "/"}
    for url in ("http://10.0.0.1:8080/", "http://169.254.169.254/", "http://localhost:22/", "ftp://localhost:2121/"):
        with pytest.raises(InvalidInputError):
            rules.read_url(url, allow_local=True)


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://shop.example/{text}"):
        with suppress(InvalidInputError):
            target = rules.read_url(url, allow_local=False)
            assert target.path.startswith("/")
            assert target.host.isascii()


PRIVATE = [
    "0.0.0.0",  # noqa: S104 - nobody binds to it
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b::7f00:1",
    "2002:a00:1::",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    "100::1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "shop.example",
    "1",
    "-",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "192.169.0.1",
    "223.5.5.5",
    "2001:4860:4860::8888",
    "2400:3200::1",
    "::ffff:8.8.8.8",
]


def test_only_public_addresses_may_be_called() -> None:
    assert [address for address in PRIVATE if rules.may_call(address, allow_local=False)] == []
    assert [address for address in PUBLIC if not rules.may_call(address, allow_local=False)] == []
    assert [address for address in PRIVATE if rules.may_call(address, allow_local=True)] == [
        "127.0.0.1",
        "127.255.255.255",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ]


@pytest.mark.parametrize("types", [frozenset(), frozenset({EventType.WEBHOOK_TEST}), frozenset(EventType)])
def test_an_endpoint_wants_something_that_happens(types: frozenset[EventType]) -> None:
    rules.require_draft(draft(types=frozenset(EventType) - {EventType.WEBHOOK_TEST}), allow_local=False)
    with pytest.raises(InvalidInputError) as refused:
        rules.require_draft(draft(types=types), allow_local=False)
    assert refused.value.message() == (
        "field types is invalid: one or more of settlement.ready, voucher.captured, voucher.refunded"
    )


def test_a_description_is_one_line_or_none() -> None:
    for description in ("", "收银系统", "x" * 100):
        rules.require_draft(draft(description=description), allow_local=False)
    for description in (" ", "a\nb", "x" * 101):
        with pytest.raises(InvalidInputError) as refused:
            rules.require_draft(draft(description=description), allow_local=False)
        assert refused.value.field == "description"


def test_a_body_says_what_happened_and_when() -> None:
    body = rules.body_of(EVENT)
    assert json.loads(body) == {
        "type": "voucher.captured",
        "timestamp": "2026-11-21T08:00:12.345000Z",
        "data": {"voucher": "vou_1", "points": 300, "title": "早餐"},
    }
    assert rules.body_of(from_payload(to_payload(EVENT))) == body


def test_headers_are_those_of_standard_webhooks() -> None:
    # The example of the specification's reference libraries.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert rules.headers_of(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), '{"test": 2432232314}', [secret]
    ) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_secret_signs() -> None:
    signed = rules.headers_of("evt_1", NOW, "{}", [b"a" * 32, b"b" * 32])
    content = f"evt_1.{1795248012}.{{}}".encode()
    macs = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in (b"a" * 32, b"b" * 32)]
    assert signed["webhook-signature"] == f"v1,{macs[0]} v1,{macs[1]}"
    assert rules.show_secret(b"a" * 32) == "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="


def test_tries_are_farther_and_farther_apart_and_end() -> None:
    waits = []
    for attempts in range(1, 10):
        due = rules.next_due(attempts, Answer(500), NOW, 0)
        assert due is not None
        waits.append((due - NOW) // timedelta(seconds=1))
    assert waits == [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert rules.next_due(10, Answer(500), NOW, 0) is None
    assert rules.next_due(2, Answer(fault=Fault.TIMEOUT), NOW, 200) == NOW + timedelta(seconds=360)
    assert rules.next_due(1, Answer(410), NOW, 0) is None


def test_a_receivers_wish_when_to_come_again_is_honoured() -> None:
    hour, wish = timedelta(hours=1), "3600"
    for status, wait in ((429, hour), (503, hour), (500, timedelta(seconds=5))):
        assert rules.next_due(1, Answer(status, retry_after=wish), NOW, 0) == NOW + wait
    # It cannot make the tries come faster.
    assert rules.next_due(4, Answer(429, retry_after=wish), NOW, 0) == NOW + 2 * hour
    for nothing in ("0", "soon", None):
        assert rules.next_due(2, Answer(429, retry_after=nothing), NOW, 0) == NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        (None, None),
        ("120", timedelta(minutes=2)),
        ("0", timedelta(0)),
        ("86401", timedelta(hours=24)),
        ("9" * 20, timedelta(hours=24)),
        ("9" * 21, None),
        (format_datetime(NOW.replace(microsecond=0) + timedelta(hours=2), usegmt=True), timedelta(hours=2)),
        (format_datetime(NOW - timedelta(hours=2), usegmt=True), timedelta(0)),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), timedelta(hours=24)),
        ("Sat, 21 Nov 2026 10:00:12 -0000", timedelta(hours=2)),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("Sat, 21 Nov 99999 10:00:12 GMT", None),
        ("01 Jan 99999999999 00:00:00 GMT", None),
    ],
)
def test_when_to_come_again_is_read_as_seconds_or_date(text: str | None, wait: timedelta | None) -> None:
    assert rules.read_retry_after(text, NOW.replace(microsecond=0)) == wait


def test_failures_make_a_row_until_a_success_or_a_long_silence() -> None:
    begin, hour = NOW - timedelta(days=4), timedelta(hours=1)
    assert rules.row_of_failures(failed(None, None), NOW) == NOW
    assert rules.row_of_failures(failed(begin, NOW - 36 * hour), NOW) == begin
    assert rules.row_of_failures(failed(begin, NOW - 36 * hour - timedelta(milliseconds=1)), NOW) == NOW


def test_only_two_hundreds_are_taken_for_delivered() -> None:
    assert [status for status in range(100, 600) if Answer(status).is_accepted] == list(range(200, 300))
    assert not Answer(fault=Fault.TIMEOUT).is_accepted


def test_an_event_travels_through_the_outbox_unchanged() -> None:
    item = event_item([EVENT], NOW)
    assert item.topic == "webhooks"
    assert [from_payload(json.loads(json.dumps(payload))) for payload in item.payload] == [EVENT]


def test_an_events_id_has_no_dot() -> None:
    with pytest.raises(ValueError, match="a dot would make what is signed ambiguous"):
        Event("evt.1", EventType.WEBHOOK_TEST, "m1", NOW, {})
