"""recordActions: up to 500 acts at once, each recorded or refused on its own; one that is forbidden stops the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.api.conftest import CARD
from tests.api.documents import RECORD, RECORD_MANY, batch, item, ride
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio


def outcomes(result: dict[str, Any]) -> list[str]:
    """Status or code of each item, in order."""
    return [entry.get("status") or entry["code"] for entry in result["results"]]


@pytest.mark.parametrize("size", [1, 500])
async def test_one_to_five_hundred_acts_are_recorded_in_order(
    size: int, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    acts = [item(f"ride-{number}") for number in range(size)]
    result = (await api.post(RECORD_MANY, batch(*acts), token=token_for("citizen", "alice"))).result
    assert outcomes(result) == ["PENDING"] * size
    stored = (await dump(services))["actions"]
    assert {action["ref"] for action in stored} == {act["ref"] for act in acts}
    # In order: the id at each place is that of the act at this place.
    again = (await api.post(RECORD, ride(**acts[-1]), token=token_for("citizen", "alice"))).result
    assert result["results"][-1]["id"] == again["id"]


@pytest.mark.parametrize("size", [0, 501])
async def test_none_or_more_than_five_hundred_are_refused(
    size: int, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    before = await dump(services)
    given = batch(*(item(f"ride-{number}") for number in range(size)))
    for language, message in (
        ("zh", f"一次需提交 1–500 条记录，收到 {size} 条"),
        ("en", f"one call takes 1–500 actions, not {size}"),
    ):
        answer = await api.post(RECORD_MANY, given, token=token_for("citizen", "alice"), language=language)
        assert answer.result == {"__typename": "BatchTooLarge", "code": "BATCH_SIZE", "message": message}
    assert await dump(services) == before


async def test_good_and_bad_acts_are_answered_in_their_order(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    acts = [
        item("good-1"),
        item("bad", quantity=0),
        item("bad", kind="teleport"),
        item("good-2"),
        item("bad", unit="GRAM"),
        item("bad", quantity=2**63 - 1),
        item(""),
        item("good-3"),
    ]
    result = (await api.post(RECORD_MANY, batch(*acts), token=token_for("citizen", "alice"))).result
    assert outcomes(result) == [
        "PENDING",
        "QUANTITY_OUT_OF_RANGE",
        "UNKNOWN_KIND",
        "PENDING",
        "WRONG_UNIT",
        "QUANTITY_OUT_OF_RANGE",
        "INVALID_INPUT",
        "PENDING",
    ]
    assert result["results"][2]["message"] == "unknown kind of action: teleport"
    assert {action["ref"] for action in (await dump(services))["actions"]} == {"good-1", "good-2", "good-3"}


async def test_a_partner_learns_which_cards_are_not_bound(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    acts = [
        item("tap-1", source="metro-afc", externalId=CARD),
        item("tap-2", source="metro-afc", externalId="3104-9999"),
        item("tap-3", source="metro-afc", citizen="bob"),
    ]
    result = (await api.post(RECORD_MANY, batch(*acts), token=token_for("partner", "metro"))).result
    assert outcomes(result) == ["PENDING", "NOT_BOUND", "NOT_BOUND"]
    assert [action["citizen"] for action in (await dump(services))["actions"]] == ["alice"]


async def test_a_reference_twice_in_one_batch_is_one_act(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    act = item("twice")
    acts = [act, act, {**act, "attributes": {"route": "9"}}, item("once")]
    result = (await api.post(RECORD_MANY, batch(*acts), token=token_for("citizen", "alice"))).result
    assert outcomes(result) == ["PENDING", "PENDING", "CONFLICT", "PENDING"]
    assert result["results"][0]["id"] == result["results"][1]["id"]
    assert sorted(action["ref"] for action in (await dump(services))["actions"]) == ["once", "twice"]


async def test_the_same_call_again_is_answered_alike_and_writes_nothing(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token, given = token_for("citizen", "alice"), batch(item("one"), item("bad", quantity=0), item("two"))
    first = (await api.post(RECORD_MANY, given, token=token)).result
    before = await dump(services)
    assert (await api.post(RECORD_MANY, given, token=token)).result == first
    assert await dump(services) == before


async def test_the_key_with_other_acts_is_refused_and_writes_nothing(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    assert outcomes((await api.post(RECORD_MANY, batch(item("one")), token=token)).result) == ["PENDING"]
    before = await dump(services)
    for acts in ([item("two")], [item("one"), item("two")]):
        answer = await api.post(RECORD_MANY, batch(*acts), token=token)
        assert answer.result == {
            "__typename": "IdempotencyConflict",
            "code": "IDEMPOTENCY_CONFLICT",
            "message": "idempotency key batch-0001 was already used with another payload",
        }
    assert await dump(services) == before


@pytest.mark.parametrize(
    ("who", "forbidden", "what"),
    [
        (("citizen", "alice"), {"citizen": "bob"}, "another citizen's account"),
        (("citizen", "alice"), {"source": "metro-afc"}, "source metro-afc"),
        (("merchant", "bakery"), {}, "recordAction"),
        (("reviewer", "rita"), {}, "recordAction"),
        (("partner", "bikes"), {"source": "metro-afc", "externalId": CARD}, "source metro-afc"),
    ],
)
async def test_one_forbidden_act_refuses_the_whole_call_and_writes_nothing(
    who: tuple[str, str],
    forbidden: dict[str, Any],
    what: str,
    api: Api,
    services: Services,
    token_for: Callable[..., str],
) -> None:
    before = await dump(services)
    own = {"source": "bike-share"} if who[0] == "partner" else {}
    acts = [item("mine-1", **own), item("not-mine", **forbidden), item("mine-2", **own)]
    answer = await api.post(RECORD_MANY, batch(*acts), token=token_for(*who))
    assert answer.refusal == ("FORBIDDEN", f"not permitted: {what}")
    assert answer.body["data"] is None
    assert await dump(services) == before


async def test_nobody_records_without_a_token(api: Api, services: Services) -> None:
    before = await dump(services)
    answer = await api.post(RECORD_MANY, batch(item()))
    assert answer.refusal == ("UNAUTHENTICATED", "sign in first (no token)")
    assert await dump(services) == before


async def test_an_attribute_that_is_no_text_refuses_its_own_item_only(api: Api, token_for: Callable[..., str]) -> None:
    answer = await api.post(
        RECORD_MANY, batch(item(), item("x", attributes={"card": 1})), token=token_for("citizen", "alice")
    )
    assert [result.get("code", result["__typename"]) for result in answer.result["results"]] == [
        "Action",
        "INVALID_INPUT",
    ]


async def test_a_malformed_key_refuses_the_whole_call(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token, before = token_for("citizen", "alice"), await dump(services)
    message = "field idempotencyKey is invalid: 8–64 printable ASCII characters"
    answer = await api.post(RECORD_MANY, batch(item(), key="short"), token=token)
    assert answer.result == {"__typename": "InvalidInput", "code": "INVALID_INPUT", "message": message}
    assert await dump(services) == before
