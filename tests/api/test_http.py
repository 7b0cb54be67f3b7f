"""GraphQL over HTTP: what is no request is told so with the right status, and a bug is masked."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import pytest
from structlog.testing import capture_logs

from backend.app import create_app
from backend.kernel.errors import BusyError, UnavailableError
from tests.api.client import GRAPHQL_JSON, JSON, Api
from tests.api.documents import RECORD, RECORD_MANY, batch, item, ride
from tests.conftest import dump

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backend.runtime import Services

pytestmark = pytest.mark.anyio

CODE = "{ programme { code } }"
NO_OBJECT = 'the body must be an object with a text "query"'
NOT_JSON = "the body is not JSON in UTF-8"
BAD_PARTS = '"variables" must be an object, "operationName" a text'
NOT_REQUESTS: list[tuple[str, bytes, str]] = [
    ("nothing", b"", NOT_JSON),
    ("half an object", b'{"query": "{ programme', NOT_JSON),
    ("two objects", b"{}{}", NOT_JSON),
    ("not UTF-8", '{"query": "{ kinds（名） }"}'.encode("gb18030"), NOT_JSON),
    ("UTF-16", '{"query": "{ kinds { code } }"}'.encode("utf-16"), NOT_JSON),
    ("half a surrogate pair", rb'{"query": "{ rule(code: \"\ud800\") { code } }"}', NOT_JSON),
    ("NaN", b'{"query": "{ kinds { code } }", "variables": {"a": NaN}}', NOT_JSON),
    ("a raw NUL", b'{"query": "{ kinds \x00 { code } }"}', NOT_JSON),
    ("nested 5000 deep", b'{"query": "{ kinds { code } }", "variables": ' + b"[" * 5_000, NOT_JSON),
    ("an array", b'[{"query": "{ kinds { code } }"}]', NO_OBJECT),
    ("a text", b'"{ kinds { code } }"', NO_OBJECT),
    ("null", b"null", NO_OBJECT),
    ("no query", b'{"variables": {}}', NO_OBJECT),
    ("query null", b'{"query": null}', NO_OBJECT),
    ("query as a list", b'{"query": ["{ kinds { code } }"]}', NO_OBJECT),
    ("a persisted query", b'{"extensions": {"persistedQuery": {"version": 1}}}', NO_OBJECT),
    ("variables as a list", b'{"query": "{ kinds { code } }", "variables": []}', BAD_PARTS),
    ("variables as a text", b'{"query": "{ kinds { code } }", "variables": "{}"}', BAD_PARTS),
    ("operation name as a number", b'{"query": "{ kinds { code } }", "operationName": 1}', BAD_PARTS),
]
# Document and variables → code of what is wrong with them before anything is executed.
UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("syntax error", {"query": "{ programme { code }"}, "GRAPHQL_PARSE_FAILED"),
    ("empty document", {"query": ""}, "GRAPHQL_PARSE_FAILED"),
    ("NUL in the document", {"query": "{ programme \x00 { code } }"}, "GRAPHQL_PARSE_FAILED"),
    ("unknown field", {"query": "{ programme { code secret } }"}, "GRAPHQL_VALIDATION_FAILED"),
    ("unknown argument", {"query": "{ kinds(secret: 1) { code } }"}, "GRAPHQL_VALIDATION_FAILED"),
    ("missing argument", {"query": "{ rule { code } }"}, "GRAPHQL_VALIDATION_FAILED"),
    ("no selection", {"query": "{ programme }"}, "GRAPHQL_VALIDATION_FAILED"),
    (
        "circular fragments",
        {"query": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }"},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    ("missing variable", {"query": "query ($c: String!) { rule(code: $c) { code } }"}, "BAD_USER_INPUT"),
    (
        "wrong variable",
        {"query": "query ($c: String!) { rule(code: $c) { code } }", "variables": {"c": 7}},
        "BAD_USER_INPUT",
    ),
    ("subscription", {"query": "subscription { actionSettled { id } }"}, "BAD_REQUEST"),
    ("unknown operation", {"query": f"query A {CODE}", "operationName": "B"}, "BAD_REQUEST"),
    ("which operation", {"query": f"query A {CODE} query B {CODE}"}, "BAD_REQUEST"),
    ("only a fragment", {"query": "fragment A on Query { programme { code } }"}, "GRAPHQL_VALIDATION_FAILED"),
]


@pytest.mark.parametrize(
    ("body", "message"), [case[1:] for case in NOT_REQUESTS], ids=[case[0] for case in NOT_REQUESTS]
)
async def test_what_is_no_request_is_answered_400(body: bytes, message: str, api: Api) -> None:
    for accept in (JSON, GRAPHQL_JSON):
        answer = await api.post(body, headers={"accept": accept})
        assert (answer.status, answer.headers["content-type"]) == (400, accept)
        assert answer.body == {"errors": [{"message": message, "extensions": {"code": "BAD_REQUEST"}}]}


@pytest.mark.parametrize("asked", [case[1] for case in UNFIT], ids=[case[0] for case in UNFIT])
async def test_a_request_that_cannot_be_executed_has_the_status_of_its_media_type(
    asked: dict[str, Any], api: Api
) -> None:
    (code,) = [case[2] for case in UNFIT if case[1] is asked]
    for accept, status in (
        (GRAPHQL_JSON, 400),
        (f"{GRAPHQL_JSON}, {JSON};q=0.9", 400),
        (JSON, 200),
        ("*/*", 200),
    ):
        # The second time the document is known already, and as wrong as before.
        for _ in range(2):
            answer = await api.post(asked, headers={"accept": accept})
            assert (answer.status, "data" in answer.body) == (status, False)
            assert {error["extensions"]["code"] for error in answer.body["errors"]} == {code}
            assert answer.headers["content-type"] == (JSON if status == 200 else GRAPHQL_JSON)


async def test_an_executed_request_is_answered_200_in_both_media_types(api: Api) -> None:
    for accept in (JSON, GRAPHQL_JSON):
        good = await api.post(CODE, headers={"accept": accept})
        assert (good.status, good.body) == (200, {"data": {"programme": {"code": "zhenjiang"}}})
        # A field that fails beside one that does not: executed all the same.
        partial = await api.post("{ viewer { kind } programme { code } }", headers={"accept": accept})
        assert (partial.status, partial.code) == (200, "UNAUTHENTICATED")
        assert partial.body["data"] == {"viewer": None, "programme": {"code": "zhenjiang"}}
        assert good.headers["content-type"] == partial.headers["content-type"] == accept


async def test_the_operation_named_is_the_one_executed(api: Api) -> None:
    query = "query A { programme { code } } query B { programme { timeZone } }"
    assert (await api.post({"query": query, "operationName": "B"})).result == {"timeZone": "Asia/Shanghai"}
    assert (await api.post({"query": query, "operationName": "A"})).result == {"code": "zhenjiang"}


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/graphql", ""],
)
async def test_another_content_type_is_answered_415(
    content_type: str, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    before = await dump(services)
    answer = await api.post(RECORD, ride(), token=token_for("citizen", "alice"), headers={"content-type": content_type})
    assert answer.status == 415
    assert answer.refusal == ("UNSUPPORTED_MEDIA_TYPE", "send application/json")
    assert await dump(services) == before


async def test_parameters_and_letters_of_the_content_type_do_not_matter(api: Api) -> None:
    for content_type in ("application/json; charset=utf-8", "Application/JSON ;charset=UTF-8"):
        assert (await api.post(CODE, headers={"content-type": content_type})).status == 200


async def test_only_post_is_answered(api: Api, services: Services) -> None:
    before = await dump(services)
    mutation = 'mutation { recordAction(input: {idempotencyKey: "k"}) { __typename } }'
    for method in ("GET", "PUT", "PATCH", "DELETE", "HEAD"):
        response = await api.http.request(method, "/graphql", params={"query": mutation})
        assert (method, response.status_code, response.headers["allow"]) == (method, 405, "POST")
    assert await dump(services) == before


async def test_the_application_is_ready_once_its_database_answers(api: Api) -> None:
    response = await api.http.get("/readyz")
    assert (response.status_code, response.text) == (200, "ready\n")
    assert (await api.http.get("/")).status_code == 404


async def test_a_body_beyond_the_limit_is_answered_413_before_it_is_read(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    chunk, sent = b" " * 65_536, 0

    async def ten_megabytes() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(160):
            sent += len(chunk)
            yield chunk

    answer = await api.post(ten_megabytes(), token=token_for("citizen", "alice"))
    limit = services.settings.max_body_bytes
    assert answer.status == 413
    assert answer.refusal == ("PAYLOAD_TOO_LARGE", f"at most {limit} bytes")
    # What was taken from the sender is the limit and the chunk that passed it.
    assert sent == limit + len(chunk)


async def test_a_body_at_the_limit_is_read(api: Api, services: Services) -> None:
    body = b'{"query": "{ programme { code } }"}'
    padded = body + b" " * (services.settings.max_body_bytes - len(body))
    assert (await api.post(padded)).result == {"code": "zhenjiang"}
    assert (await api.post(padded + b" ")).status == 413


class Failing:
    """A service of which every method fails in the same way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: object, **__: object) -> NoReturn:
            raise self._error

        return fail


async def ask_failing(services: Services, error: Exception, document: str, **asked: Any) -> Any:
    """What the application answers whose rules and actions fail."""
    failing: Any = Failing(error)
    app = create_app(dataclasses.replace(services, rules=failing, actions=failing))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        return await Api(http).post(document, **asked)


async def test_a_bug_is_masked_and_logged_under_the_id_that_is_told(
    services: Services, token_for: Callable[..., str]
) -> None:
    for document, variables in (
        ("{ kinds { code } }", None),
        (RECORD, ride()),
        (RECORD_MANY, batch(item())),
        ('{ action(id: "x") { id } }', None),
    ):
        for language, message in (("en", "internal error"), ("zh", "服务内部错误")):
            with capture_logs() as logs:
                answer = await ask_failing(
                    services,
                    RuntimeError("password hunter2"),
                    document,
                    variables=variables,
                    token=token_for("citizen", "alice"),
                    language=language,
                )
            (error,) = answer.body["errors"]
            assert (answer.status, error["message"], error["extensions"]["code"]) == (200, message, "INTERNAL")
            correlation = error["extensions"]["correlationId"]
            assert re.fullmatch(r"[0-9a-f]{16}", correlation)
            assert "hunter2" not in str(answer.body)
            assert "RuntimeError" not in str(answer.body)
            (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
            assert (entry["correlation"], str(entry["exc_info"])) == (correlation, "password hunter2")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BusyError(), "BUSY", "too many simultaneous changes; try again"),
        (UnavailableError(), "UNAVAILABLE", "a required server does not answer; try again"),
    ],
)
async def test_a_transient_fault_is_told_as_such(
    error: Exception, code: str, message: str, services: Services, token_for: Callable[..., str]
) -> None:
    answer = await ask_failing(services, error, RECORD, variables=ride(), token=token_for("citizen", "alice"))
    assert answer.status == 200
    assert answer.refusal == (code, message)
    assert answer.body["errors"][0]["extensions"] == {"code": code}
