"""Why something about webhooks is refused."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class UnknownEndpointError(Refusal):
    """The merchant has no such endpoint."""

    endpoint: str

    code = "UNKNOWN_ENDPOINT"
    zh = "该商户没有回调地址 {endpoint}"
    en = "the merchant has no webhook endpoint {endpoint}"


@dataclass(eq=False)
class TooManyEndpointsError(Refusal):
    """The merchant has as many endpoints as it may."""

    limit: int

    code = "TOO_MANY_ENDPOINTS"
    zh = "每个商户最多 {limit} 个回调地址"
    en = "a merchant has at most {limit} webhook endpoints"


@dataclass(eq=False)
class EndpointDisabledError(Refusal):
    """Nothing is sent to an endpoint that is disabled."""

    endpoint: str

    code = "ENDPOINT_DISABLED"
    zh = "回调地址 {endpoint} 已停用，请先启用"
    en = "the webhook endpoint {endpoint} is disabled; enable it first"


@dataclass(eq=False)
class UnknownDeliveryError(Refusal):
    """The merchant has no such delivery, or it is forgotten."""

    delivery: str

    code = "UNKNOWN_DELIVERY"
    zh = "该商户没有回调记录 {delivery}，或已过保存期"
    en = "the merchant has no webhook delivery {delivery}, or it is no longer kept"


@dataclass(eq=False)
class TooManyTestsError(Refusal):
    """An endpoint is tested once a minute."""

    endpoint: str
    until: str

    code = "TOO_MANY_TESTS"
    zh = "回调地址 {endpoint} 每分钟只能测试一次，请在 {until} 后再试"
    en = "the webhook endpoint {endpoint} is tested once a minute; try again after {until}"


@dataclass(eq=False)
class OldSecretInForceError(Refusal):
    """Calls are still signed with the secret before the last rotation; another would cut its time short."""

    endpoint: str
    until: str

    code = "OLD_SECRET_IN_FORCE"
    zh = "回调地址 {endpoint} 的上一个密钥在 {until} 前仍有效，之后才能再次更换"
    en = "the secret of the webhook endpoint {endpoint} before this one is in force until {until}; rotate again then"
