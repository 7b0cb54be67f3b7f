"""The mutations on vouchers and webhooks as the API's tests send them, and what each test of a refusal asserts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.relay import to_global_id
from tests.api.selling import PEOPLE
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.rewards.vouchers.model import Voucher
    from tests.api.client import Answer, Api
    from tests.api.selling import Town

ALL = """
  __typename id kind status title handover offerId merchantId shops units items itemsLeft
  points pointsCaptured pointsRefunded cashFen borneBy createdAt expiresAt
  captures { transactionId at items points shop } refunds { transactionId at points reason }
  dispute { stage openedAt reason decidedAt answer }
"""
SECRETS = "secret partnerCode shownCode { token typed svg png validUntil }"
VOUCHER = f"... on Voucher {{ {ALL} {SECRETS} }}"
ENDPOINT = "id url types description stage reason createdAt failingSince oldSecretUntil"
DELIVERY = "id endpoint event type body at stage dueAt attempts tries { at status fault tookMs }"
SUCCESSES = {
    "redeemOffer": VOUCHER,
    "cancelVoucher": VOUCHER,
    "captureVoucher": VOUCHER,
    "refundVoucher": VOUCHER,
    "disputeVoucher": VOUCHER,
    "decideDispute": VOUCHER,
    "createWebhookEndpoint": f"... on WebhookSecret {{ secret endpoint {{ {ENDPOINT} }} }}",
    "updateWebhookEndpoint": f"... on WebhookEndpoint {{ {ENDPOINT} }}",
    "rotateWebhookSecret": f"... on WebhookSecret {{ secret endpoint {{ {ENDPOINT} }} }}",
    "deleteWebhookEndpoint": "... on WebhookEndpointDeleted { endpoint }",
    "testWebhookEndpoint": f"... on WebhookDelivery {{ {DELIVERY} }}",
    "replayWebhookDelivery": f"... on WebhookDelivery {{ {DELIVERY} }}",
    "replayDeadWebhooks": "... on DeadWebhooksReplayed { count }",
}
DOCUMENTS = {
    name: f"mutation ($input: {name[0].upper()}{name[1:]}Input!) {{ {name}(input: $input) {{ __typename {success} "
    "... on Refusal { code message } } }"
    for name, success in SUCCESSES.items()
}
KEY = "key-0001"
SIGN_IN = ("sign in first (no token)", "请先登录（没有令牌）")
Told = tuple[str, str, str]


def global_id(voucher: Voucher) -> str:
    """The voucher's global id."""
    return to_global_id("Voucher", voucher.id)


async def ask(api: Api, name: str, token: str | None, *, language: str = "en", key: str = KEY, **given: Any) -> Answer:
    """Send one mutation."""
    return await api.post(DOCUMENTS[name], {"input": {"idempotencyKey": key, **given}}, token=token, language=language)


def outcome(answer: Answer) -> str:
    """What became of a request: the type of its success, or the code of its refusal or denial."""
    if "errors" in answer.body:
        return answer.code
    return str(answer.result.get("code") or answer.result["__typename"])


async def everything(town: Town) -> dict[str, list[Any]]:
    """Every document, once what was changed is sent on."""
    await town.services.rewards.flush()
    return await dump(town.services)


async def snapshot(town: Town) -> dict[str, list[Any]]:
    """Every document but those that a refusal may leave: a pot asked for the first time, wrong codes counted."""
    found = await everything(town)
    for name in ("stock_pots", "stock_uses", "voucher_tries"):
        found.pop(name, None)
    return found


async def refused(api: Api, town: Town, name: str, expected: Told, *, who: str = "citizen", **given: Any) -> None:
    """Assert code and messages of a refusal, and that it changes nothing."""
    before = await snapshot(town)
    code, zh, en = expected
    for language, message in (("zh", zh), ("en", en)):
        answer = await ask(api, name, town.token(who), language=language, **given)
        assert (answer.result.get("code"), answer.result.get("message")) == (code, message)
    assert await snapshot(town) == before


async def only(
    api: Api, town: Town, name: str, denied: Mapping[str, str], forbidden: tuple[str, str], **given: Any
) -> None:
    """Assert what each of these people is told instead, where not that it is FORBIDDEN, and that nothing changed."""
    before = await snapshot(town)
    for who, code in denied.items():
        en, zh = SIGN_IN if PEOPLE[who] is None else forbidden
        for language, message in (("en", en), ("zh", zh)):
            answer = await ask(api, name, town.token(who), language=language, **given)
            assert (who, outcome(answer)) == (who, code)
            if code in {"FORBIDDEN", "UNAUTHENTICATED"}:
                assert (answer.refusal[1], answer.body["data"]) == (message, None)
    assert await snapshot(town) == before


def denials(*allowed: str, **otherwise: str) -> dict[str, str]:
    """What all but those allowed are told: FORBIDDEN, but for those named (``_`` for a blank)."""
    told = dict.fromkeys(PEOPLE, "FORBIDDEN") | {"nobody": "UNAUTHENTICATED"}
    told |= {who.replace("_", " "): code for who, code in otherwise.items()}
    return {who: code for who, code in told.items() if who not in allowed}
