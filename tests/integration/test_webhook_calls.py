"""One call to a merchant's system: only to addresses that may be called, pinned, without redirects, in bounded time."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backend.process.server import LOOPBACK, free_ports
from backend.rewards.webhooks.calling import Caller
from backend.rewards.webhooks.model import Fault
from backend.rewards.webhooks.rules import Answer
from tests.integration.receiving import HANG, Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

pytestmark = pytest.mark.anyio

HEADERS = {"webhook-id": "evt_1"}


def leading_to(*addresses: str) -> Resolve:
    """A name service that knows one answer to everything."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolve


async def call(url: str, caller: Caller | None = None) -> Answer:
    """Call in development, but for what is given."""
    caller = caller or Caller(allow_local=True, timeout_s=1)
    return await caller.call(url, HEADERS, b'{"a":1}')


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    """The merchant's system."""
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def talking(answer: bytes) -> AsyncIterator[int]:
    """A server that sends the same bytes to whoever connects, and then says nothing; its port."""
    over = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(answer)
            await writer.drain()
            await over.wait()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over.set()
        server.close()
        await server.wait_closed()


def certificate(folder: Path, *names: x509.GeneralName) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server with a certificate for these names serves with, and what a client needs to trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "shop.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


async def test_the_body_arrives_with_its_headers(shop: Receiver) -> None:
    assert await call(shop.url("/a/b?c=%20d")) == Answer(200)
    [got] = shop.calls
    assert (got.path, got.body) == ("/a/b?c=%20d", '{"a":1}')
    assert got.headers["webhook-id"] == "evt_1"
    assert got.headers["user-agent"] == "tanhui-webhooks/1"
    assert got.headers["host"] == f"{LOOPBACK}:{shop.port}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(shop: Receiver, status: int) -> None:
    shop.answers["/"] = [f"{status} There\r\nLocation: {shop.url('/there')}"]
    assert await call(shop.url()) == Answer(status)
    assert [got.path for got in shop.calls] == ["/"]


async def test_a_wish_to_be_left_alone_is_told(shop: Receiver) -> None:
    shop.answers["/"] = ["429 Slow\r\nRetry-After: 60"]
    assert await call(shop.url()) == Answer(429, retry_after="60")


async def test_who_hangs_is_given_up(shop: Receiver) -> None:
    shop.answers["/"] = [HANG]
    assert await call(shop.url()) == Answer(fault=Fault.TIMEOUT)


@pytest.mark.parametrize(
    "words", [b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: y\r\n"]
)
async def test_who_never_ends_the_headers_is_given_up(words: bytes) -> None:
    async with talking(words) as port:
        assert await call(f"http://{LOOPBACK}:{port}/") == Answer(fault=Fault.TIMEOUT)


async def test_a_name_service_that_hangs_is_given_up() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    slow = Caller(allow_local=True, timeout_s=1, resolve=resolve)
    assert await call("https://shop.example/", slow) == Answer(fault=Fault.TIMEOUT)


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\nand", b"HTTP/1.1 200 OK\r\n\r\n"]
)
async def test_an_answers_body_is_not_waited_for(words: bytes) -> None:
    async with talking(words) as port:
        assert await call(f"http://{LOOPBACK}:{port}/") == Answer(200)


@pytest.mark.parametrize("words", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, b"\0" * 4_096])
async def test_who_speaks_no_http_has_failed(words: bytes) -> None:
    async with talking(words) as port:
        assert await call(f"http://{LOOPBACK}:{port}/") == Answer(fault=Fault.CONNECTION_FAILED)


async def test_where_nobody_listens_the_connection_fails() -> None:
    [port] = free_ports(1)
    assert await call(f"http://{LOOPBACK}:{port}/") == Answer(fault=Fault.CONNECTION_FAILED)


async def test_a_name_nobody_has_is_not_found() -> None:
    async def resolve(host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, host)

    caller = Caller(allow_local=True, timeout_s=1, resolve=resolve)
    assert await call("https://nobody.example/", caller) == Answer(fault=Fault.NAME_NOT_FOUND)


async def test_the_systems_name_service_is_asked(shop: Receiver) -> None:
    assert await call(shop.url(host="localhost")) == Answer(200)


async def test_a_url_stored_when_it_was_allowed_is_not_called_when_it_is_not(shop: Receiver) -> None:
    strict = Caller(allow_local=False, timeout_s=1)
    for url in (shop.url(), f"https://{LOOPBACK}:{shop.port}/", f"https://localhost:{shop.port}/"):
        assert await call(url, strict) == Answer(fault=Fault.URL_REFUSED)
    assert shop.calls == []


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("10.0.0.1",), ("169.254.169.254",), ("8.8.8.8", "127.0.0.1"), ("::1",), ("fe80::1%eth0",), ()],
)
async def test_a_public_name_that_leads_inside_is_not_called(shop: Receiver, addresses: tuple[str, ...]) -> None:
    strict = Caller(allow_local=False, timeout_s=1, resolve=leading_to(*addresses))
    assert await call(f"https://shop.example:{shop.port}/", strict) == Answer(fault=Fault.ADDRESS_NOT_PUBLIC)
    assert shop.calls == []


async def test_development_calls_this_machine_and_nothing_else_inside() -> None:
    for address in ("10.0.0.1", "169.254.169.254", "192.168.1.1"):
        caller = Caller(allow_local=True, timeout_s=1, resolve=leading_to(LOOPBACK, address))
        assert await call("http://shop.example:8080/", caller) == Answer(fault=Fault.ADDRESS_NOT_PUBLIC)


async def test_the_address_that_was_looked_at_is_the_one_connected_to(shop: Receiver) -> None:
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        # A name that leads elsewhere the second time it is asked for.
        asked.append((host, port))
        return [LOOPBACK] if len(asked) == 1 else ["127.0.0.99"]

    caller = Caller(allow_local=True, timeout_s=1, resolve=resolve)
    assert await call(shop.url(host="shop.example"), caller) == Answer(200)
    assert asked == [("shop.example", shop.port)]
    assert shop.calls[0].headers["host"] == f"shop.example:{shop.port}"


async def test_settings_of_the_environment_send_no_call_through_a_proxy(
    shop: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        assert await call(shop.url("/direct")) == Answer(200)
        assert (len(shop.calls), proxy.calls) == (1, [])


async def test_a_certificate_must_be_the_names_though_the_address_is_connected_to(tmp_path: Path) -> None:
    serving, trusting = certificate(tmp_path, x509.DNSName("shop.example"))
    async with receiving(serving) as shop:
        caller = Caller(allow_local=True, timeout_s=5, resolve=leading_to(LOOPBACK), tls=trusting)
        assert await call(shop.url("/", "https", "shop.example"), caller) == Answer(200)
        assert shop.calls[0].headers["host"] == f"shop.example:{shop.port}"
        for host in ("other.example", LOOPBACK):
            assert await call(shop.url("/", "https", host), caller) == Answer(fault=Fault.CONNECTION_FAILED)
        # Nobody vouches for it by default.
        doubting = Caller(allow_local=True, timeout_s=5, resolve=leading_to(LOOPBACK))
        assert await call(shop.url("/", "https", "shop.example"), doubting) == Answer(fault=Fault.CONNECTION_FAILED)
        assert len(shop.calls) == 1


async def test_a_certificate_may_be_an_addresss(tmp_path: Path) -> None:
    serving, trusting = certificate(tmp_path, x509.IPAddress(ipaddress.ip_address(LOOPBACK)))
    async with receiving(serving) as shop:
        caller = Caller(allow_local=True, timeout_s=5, tls=trusting)
        assert await call(shop.url("/", "https"), caller) == Answer(200)


async def test_two_names_of_one_address_share_no_connection(shop: Receiver) -> None:
    caller = Caller(allow_local=True, timeout_s=5, resolve=leading_to(LOOPBACK))
    answers = await asyncio.gather(*(call(shop.url(host=f"shop{n}.example"), caller) for n in range(20)))
    assert answers == [Answer(200)] * 20
    assert {got.headers["host"] for got in shop.calls} == {f"shop{n}.example:{shop.port}" for n in range(20)}
