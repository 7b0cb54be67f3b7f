"""Costly documents: refused before they cost anything, or answered within bounds."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from schemas.limits import MAX_COST, MAX_TOKENS
from schemas.request_path import MAX_DOCUMENT_CHARS
from tests.api.client import GRAPHQL_JSON
from tests.api.documents import RECORD_MANY, ROOM, batch, item, nested, wide, written
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

TOO_WIDE = "the answer may have more than 10000 fields; ask for less at once"


async def test_nesting_has_a_limit(api: Api) -> None:
    assert (await api.post(nested(ROOM))).result == {"code": "zhenjiang"}
    answer = await api.post(nested(ROOM + 1))
    assert answer.refusal == ("COST_LIMIT", "the document is nested deeper than 12 levels")
    assert "data" not in answer.body
    assert (await api.post(nested(ROOM + 1), headers={"accept": GRAPHQL_JSON})).status == 400


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (nested(150), "COST_LIMIT"),
        ("{a" * 650 + "}" * 650, "GRAPHQL_PARSE_FAILED"),
        ("{a" * 990, "GRAPHQL_PARSE_FAILED"),
        ("{ node(id: " + "[" * 900 + "]" * 900 + ") { id } }", "GRAPHQL_PARSE_FAILED"),
        ("{ node(id: " + "{a:" * 600 + "1" + "}" * 600 + ") { id } }", "GRAPHQL_PARSE_FAILED"),
        ("query ($a: " + "[" * 990 + "Int" + "]" * 990 + ") { kinds { code } }", "GRAPHQL_PARSE_FAILED"),
    ],
    ids=["fragments", "fields", "unclosed", "lists", "objects", "types"],
)
async def test_absurd_nesting_is_refused_and_breaks_nothing(document: str, code: str, api: Api) -> None:
    answer = await api.post(document, headers={"accept": GRAPHQL_JSON})
    assert (answer.status, answer.code) == (400, code)
    assert (await api.post(nested(0))).result == {"code": "zhenjiang"}


async def test_a_document_has_a_limit_of_characters_and_of_tokens(api: Api) -> None:
    document = nested(0)
    assert (await api.post(document.ljust(MAX_DOCUMENT_CHARS))).result == {"code": "zhenjiang"}
    answer = await api.post(document.ljust(MAX_DOCUMENT_CHARS + 1))
    assert answer.status == 400
    assert answer.refusal == ("COST_LIMIT", "a document has at most 32768 characters")


async def test_a_flood_of_aliases_is_refused(api: Api) -> None:
    # Six tokens an alias: name, colon, field, two braces, field.
    few, many = [
        f"{{ {' '.join(f'a{number}: programme {{ code }}' for number in range(count))} }}"
        for count in (MAX_TOKENS // 6 - 1, MAX_TOKENS // 6 + 1)
    ]
    data = (await api.post(few)).data
    assert len(data) == MAX_TOKENS // 6 - 1
    assert set(data["a0"].values()) == {"zhenjiang"}
    answer = await api.post(many)
    assert answer.code == "GRAPHQL_PARSE_FAILED"
    assert f"more than {MAX_TOKENS} tokens" in answer.refusal[1]


async def test_the_widest_document_that_passes_is_answered(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token, now = token_for("citizen", "alice"), services.clock.now()
    rides = [item(f"ride-{number}", occurredAt=written(now - timedelta(hours=number + 1))) for number in range(100)]
    await api.post(RECORD_MANY, batch(*rides), token=token)
    before = await dump(services)
    # A list is one field, its nodes another, and each node has one.
    most = MAX_COST // 102
    viewer = (await api.post(wide(most), token=token)).result
    expected = [{"ref": f"ride-{number}"} for number in range(100)]
    assert len(viewer) == most
    assert all(found["nodes"] == expected for found in viewer.values())
    answer = await api.post(wide(most + 1), token=token)
    assert answer.refusal == ("COST_LIMIT", TOO_WIDE)
    assert await dump(services) == before


@pytest.mark.parametrize(
    "document",
    [
        "{" + "".join(f"a{n}: rules {{ ...R }}" for n in range(220)) + "} fragment R on RuleVersion { code version }",
        "query ($n: Int) { viewer { ... on Citizen {"
        + "".join(f"a{n}: actions(first: $n) {{ edges {{ cursor }} }} " for n in range(99))
        + "} } }",
        "query ($ids: [ID!]!) {" + "".join(f"a{n}: nodes(ids: $ids) {{ id }}" for n in range(100)) + "}",
        "{ ...A } fragment A on Query { ...B a: rules { ...R } } fragment B on Query { ...C b: rules { ...R } }"
        " fragment C on Query {" + "".join(f"c{n}: rules {{ ...R }}" for n in range(20)) + "}"
        " fragment R on RuleVersion {" + "".join(f"r{n}: code " for n in range(20)) + "}",
        "mutation ($i: RecordActionsInput!) {"
        + "".join(
            f"a{n}: recordActions(input: $i) {{ ... on RecordedActions {{ results {{ __typename }} }} }}"
            for n in range(20)
        )
        + "}",
    ],
    ids=["rules", "pages by variable", "nodes", "fragments", "batches"],
)
async def test_an_answer_of_too_many_fields_is_refused_before_it_is_made(document: str, api: Api) -> None:
    answer = await api.post(document, headers={"accept": GRAPHQL_JSON})
    assert answer.status == 400
    assert answer.refusal == ("COST_LIMIT", TOO_WIDE)


async def test_a_flood_of_mutations_records_each_act_once(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    mutations = " ".join(f"a{number}: recordAction(input: $input) {{ __typename }}" for number in range(40))
    given = {"input": {"idempotencyKey": "key-flood", **item()}}
    document = f"mutation ($input: RecordActionInput!) {{ {mutations} }}"
    data = (await api.post(document, given, token=token_for("citizen", "alice"))).data
    assert {found["__typename"] for found in data.values()} == {"Action"}
    assert len((await dump(services))["actions"]) == 1
