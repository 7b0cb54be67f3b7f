"""One HTTP call to a merchant's system: to the very address that was checked, without redirects, within ten seconds."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

import httpx

from backend.kernel.errors import InvalidInputError
from backend.rewards.webhooks.model import Fault
from backend.rewards.webhooks.rules import Answer, may_call, read_url

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from backend.rewards.webhooks.rules import Target

    Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

TIMEOUT_S = 10
# A name server that hangs holds a thread for long; these are nobody else's.
RESOLVERS = 32
USER_AGENT = "tanhui-webhooks/1"


class Caller:
    """Calls merchants' systems. ``allow_local`` lets development call http and this machine."""

    def __init__(
        self,
        *,
        allow_local: bool,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: int = TIMEOUT_S,
    ) -> None:
        self._allow_local = allow_local
        self._resolve = resolve or self._ask_system
        self._given_tls = tls
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="webhook-names")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or httpx.create_ssl_context(trust_env=False)

    async def call(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send the body; what came of it, never an exception for what the network does.

        The name is resolved once, and every address it has must be allowed; an answer's body is not read.
        """
        try:
            target = read_url(url, allow_local=self._allow_local)
            async with asyncio.timeout(self._timeout_s):
                address = await self._address(target)
                if address is None:
                    return Answer(fault=Fault.ADDRESS_NOT_PUBLIC)
                return await self._post(target, address, headers, body)
        except InvalidInputError:
            return Answer(fault=Fault.URL_REFUSED)
        except (TimeoutError, httpx.TimeoutException):
            return Answer(fault=Fault.TIMEOUT)
        except (socket.gaierror, UnicodeError):
            return Answer(fault=Fault.NAME_NOT_FOUND)
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            return Answer(fault=Fault.CONNECTION_FAILED)

    async def _address(self, target: Target) -> str | None:
        """The address to connect to; None where any that the name has is not allowed."""
        found = {ipaddress.ip_address(address) for address in await self._addresses(target)}
        if not found or not all(may_call(str(address), allow_local=self._allow_local) for address in found):
            return None
        # Not every machine has a way to the internet of version 6.
        return str(min(found, key=lambda address: (address.version, int(address))))

    async def _addresses(self, target: Target) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(target.host))]
        except ValueError:
            return await self._resolve(target.host, target.port)

    async def _post(self, target: Target, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Connect to the address, and speak to the host by its name.

        The connection is used once: the client would share it with whatever other name leads to that address.
        """
        place = f"[{address}]" if ":" in address else address
        sent = {"content-type": "application/json", "user-agent": USER_AGENT, **headers, "host": target.authority}
        # Settings of the environment could send the call through a proxy, to any address.
        async with (
            httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=self._timeout_s) as client,
            client.stream(
                "POST",
                f"{target.scheme}://{place}:{target.port}{target.path}",
                content=body,
                headers=sent,
                follow_redirects=False,
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            return Answer(response.status_code, retry_after=response.headers.get("retry-after"))

    async def _ask_system(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(sockaddr[0]) for *_, sockaddr in found]
