"""Documents on pooling and batches that the API's tests send, and who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.relay import to_global_id
from tests.api.selling import PEOPLE
from tests.conftest import dump
from tests.integration.batching import PROJECT, REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.api.client import Answer, Api
    from tests.integration.batching import Floor

EVERYBODY = {**PEOPLE, "finance": ("finance", "fay")}
BATCH = """id batch number scenario profile vintage stage credit project since until opener contributors acts
  quantifiedMg openedAt gatheredAt sample { size seed drawnBy actionIds }
  verdict { organisation reportHash reportName statement verifier contentHash deductedMg
    adjustments { actionId bps reason note mg } }
  ending { by reason rejected } issuance { issuedG residualMg methodologies issuer issuedAt }"""
CONTRIBUTION = """id stage benefit givenAt acts quantifiedMg poolMg ownMg deductedMg residualMg poolG ownG poolSerials
  ownSerials batch { batch stage opener }"""
POOLING = """authorised scenarios benefit since wording
  history { nodes { scenarios benefit since until wordingVersion wording } }"""
SHOWN = {"Batch": BATCH, "Contribution": CONTRIBUTION, "Pooling": POOLING}
SUCCESSES = {
    "authorisePooling": "Pooling",
    "withdrawPooling": "Pooling",
    "withdrawContribution": "Contribution",
    "openBatch": "Batch",
    "cancelBatch": "Batch",
    "drawSample": "Batch",
    "verifyBatch": "Batch",
    "rejectBatch": "Batch",
    "issueBatch": "Batch",
}


def mutation(name: str) -> str:
    """The document of that mutation, asking for everything."""
    success = SUCCESSES[name]
    return f"""mutation ($input: {name[0].upper()}{name[1:]}Input!) {{ {name}(input: $input) {{ __typename
      ... on {success} {{ {SHOWN[success]} }} ... on Refusal {{ code message }} ... on InvalidInput {{ field }} }} }}"""


def usual_input(floor: Floor, name: str, code: str) -> dict[str, Any]:
    """What each mutation is usually sent."""
    since, until = floor.days
    named = {"batch": to_global_id("Batch", code)}
    given: dict[str, dict[str, Any]] = {
        "authorisePooling": {"scenarios": ["CYCLING", "TRANSIT"], "benefit": "POINTS"},
        "withdrawPooling": {},
        "withdrawContribution": named,
        "openBatch": {
            "scenario": "TRANSIT",
            "profile": floor.services.rules.profile,
            "since": since.isoformat(),
            "until": until.isoformat(),
            "projectZh": PROJECT.zh,
            "projectEn": PROJECT.en,
        },
        "cancelBatch": {**named, "reason": "时段有误"},
        "drawSample": {**named, "size": 2},
        "verifyBatch": {
            **named,
            "reportHash": REPORT.hash,
            "reportName": REPORT.name,
            "verifierOrganisation": REPORT.organisation,
            "statement": REPORT.statement,
        },
        "rejectBatch": {**named, "reason": "证据不足"},
        "issueBatch": named,
    }
    return {"idempotencyKey": f"{name}-0001", **given[name]}


async def send(
    api: Api, floor: Floor, name: str, token: str | None, code: str = "none", *, language: str = "en", **given: Any
) -> Answer:
    """Send a mutation with its usual input, but for what is given."""
    sent = {**usual_input(floor, name, code), **given}
    return await api.post(mutation(name), {"input": sent}, token=token, language=language)


async def send_refused(api: Api, floor: Floor, name: str, token: str | None, code: str = "none", **given: Any) -> Any:
    """The refusal of a mutation that changed nothing."""
    before = await dump(floor.services)
    answer = await send(api, floor, name, token, code, **given)
    assert await dump(floor.services) == before
    return answer.result


async def send_as_anybody_but(
    api: Api, floor: Floor, token_for: Callable[..., str], name: str, code: str, allowed: Iterable[str]
) -> None:
    """Nobody but these may do it; nothing changes."""
    before = await dump(floor.services)
    for who, person in EVERYBODY.items():
        if who not in allowed:
            answer = await send(api, floor, name, token_for(*person) if person else None, code)
            assert answer.code == ("FORBIDDEN" if person else "UNAUTHENTICATED"), who
    assert await dump(floor.services) == before
