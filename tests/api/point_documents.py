"""The mutations on points and families as the API's tests send them, and what each test of a refusal asserts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.operations import read_operation
from schemas.relay import to_global_id
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Answer, Api

TRANSFER = read_operation("TransferPoints")
ALICE, BOB = to_global_id("Citizen", "alice"), to_global_id("Citizen", "bob")
BALANCES = "citizen { pointsBalance pointsAvailable pointsOwed }"
SUCCESSES = {
    "adjustPoints": f"... on PointsAdjustment {{ transactionId {BALANCES} }}",
    "foundFamily": "... on Family { members { id displayName } }",
    "inviteToFamily": "... on FamilyInvitation { invitationCode expiresAt }",
    "joinFamily": "... on Family { members { id displayName } }",
    "leaveFamily": "... on FamilyLeft { leftAt }",
}
DOCUMENTS = {
    name: f"mutation ($input: {name[0].upper()}{name[1:]}Input!) {{ {name}(input: $input) {{ __typename {success} "
    "... on Refusal { code message } } }"
    for name, success in SUCCESSES.items()
}
DOCUMENTS["transferPoints"] = TRANSFER
KEY = "key-0001"
GOOD: dict[str, dict[str, Any]] = {
    "adjustPoints": {"citizen": ALICE, "points": 5, "reason": "客服工单 42"},
    "foundFamily": {},
    "inviteToFamily": {},
    "joinFamily": {"invitationCode": "00000000"},
    "leaveFamily": {},
    "transferPoints": {"to": BOB, "points": 5},
}


async def ask(api: Api, name: str, token: str | None, *, language: str = "en", key: str = KEY, **given: Any) -> Answer:
    """Send one mutation with a good input but for what is given."""
    variables = {"input": {"idempotencyKey": key, **GOOD[name], **given}}
    return await api.post(DOCUMENTS[name], variables, token=token, language=language)


async def make_family(api: Api, token_for: Callable[..., str]) -> None:
    """Alice and Bob in one family."""
    await ask(api, "foundFamily", token_for("citizen", "alice"))
    code = (await ask(api, "inviteToFamily", token_for("citizen", "alice"))).result["invitationCode"]
    answer = await ask(api, "joinFamily", token_for("citizen", "bob"), invitationCode=code)
    assert answer.result["__typename"] == "Family"


async def refused(
    api: Api, services: Services, name: str, token: str, expected: tuple[str, str, str], **given: Any
) -> None:
    """Assert code and messages of a refusal, and that it changes nothing."""
    before = await dump(services)
    code, zh, en = expected
    for language, message in (("zh", zh), ("en", en)):
        answer = await ask(api, name, token, language=language, **given)
        assert (answer.result["code"], answer.result["message"]) == (code, message)
    after = await dump(services)
    if name == "joinFamily":  # tries are counted
        before["family_counts"] = after["family_counts"] = []
    assert after == before
