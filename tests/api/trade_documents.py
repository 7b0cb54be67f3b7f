"""Documents on merchants and offers that the API's tests send, and inputs with sensible defaults for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from graphql import GraphQLUnionType, get_named_type

from schemas.refusals import REFUSALS, TYPES
from schemas.schema import GRAPHQL_SCHEMA
from tests.api.documents import written
from tests.conftest import dump
from tests.unit.rewards.trading import DAY, DISTRICT, LAT_E6, LON_E6, credit_code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backend.runtime import Services
    from tests.api.client import Answer, Api
    from tests.integration.market import Market

    Token = Callable[..., str]
    Inputs = dict[str, Any]

ACCOUNT = """id stage reason legalName creditCode contactName contactPhone registeredAt names { zh en }
  shops { id name names { zh en } address district latE6 lonE6 phone hours { weekday fromMinute toMinute } }"""
MANAGED = (
    "id merchantId stage reason revision version submittedAt unitsLeft terms { title pricePoints stock { kind units } }"
)
CODES = {TYPES[cls].__name__: cls.code for cls in REFUSALS}
KEY = "key-api-0001"


@dataclass(frozen=True)
class Case:
    """One mutation: how to make ready for it and what to send, who may, and what else to send under the same key."""

    name: str
    prepare: Callable[[Market], Awaitable[Inputs]]
    other: Inputs
    allowed: tuple[tuple[str, str], ...]
    success: str = "MerchantAccount"
    fields: str = ACCOUNT
    # To whoever owns another merchant this is not there.
    hidden_as: str = "UNKNOWN_MERCHANT"
    expected: Inputs = field(default_factory=dict)

    @property
    def document(self) -> str:
        """The mutation, asking for its success or refusal."""
        mutation = GRAPHQL_SCHEMA.mutation_type
        assert mutation is not None
        shown = f"... on {self.success} {{ {self.fields} }} ... on Refusal {{ code message }}"
        kind = mutation.fields[self.name].args["input"].type
        return f"mutation ($input: {kind}) {{ {self.name}(input: $input) {{ __typename {shown} }} }}"

    @property
    def refusals(self) -> set[str]:
        """Codes of every refusal that the mutation can answer with."""
        mutation = GRAPHQL_SCHEMA.mutation_type
        assert mutation is not None
        union = get_named_type(mutation.fields[self.name].type)
        assert isinstance(union, GraphQLUnionType)
        return {CODES[member.name] for member in union.types if member.name in CODES}

    async def ask(self, api: Api, token: str | None, given: Inputs, language: str = "en") -> Answer:
        """Send it."""
        return await api.post(
            self.document, {"input": {"idempotencyKey": KEY, **given}}, token=token, language=language
        )


async def refused(services: Services, case: Case, api: Api, token: str, given: Inputs) -> tuple[str, str, str]:
    """Code and messages in Chinese and English of a refusal, which changed nothing."""
    before = await dump(services)
    zh, en = [(await case.ask(api, token, given, language)).result for language in ("zh", "en")]
    assert await dump(services) == before
    assert "code" in en, en
    return en["code"], zh["message"], en["message"]


def registration(**changes: Any) -> Inputs:
    """A tea house that applies."""
    given = {
        "name": {"zh": "金山茶馆", "en": "Jinshan tea house"},
        "legalName": "镇江金山茶馆有限公司",
        "creditCode": credit_code(),
        "contactName": "陈静",
        "contactPhone": "0511-85000000",
    }
    return {**given, **changes}


def contract(**changes: Any) -> Inputs:
    """One fen a point, five per cent for the programme, settled every month."""
    return {"rate": {"numerator": 1, "denominator": 1}, "commissionBps": 500, "cycle": "MONTH", **changes}


def shop(**changes: Any) -> Inputs:
    """A shop in the middle of the city, open on Mondays."""
    given = {
        "name": {"zh": "大市口店", "en": "Dashikou shop"},
        "address": "中山东路 1 号",
        "district": DISTRICT,
        "latE6": LAT_E6,
        "lonE6": LON_E6,
        "hours": [{"weekday": 1, "fromMinute": 540, "toMinute": 1_200}],
    }
    return {**given, **changes}


def terms(market: Market, **changes: Any) -> Inputs:
    """A pot of tea for 500 points, for a month from now on."""
    now = market.services.clock.now()
    given = {
        "kind": "VOUCHER",
        "category": "FOOD",
        "title": {"zh": "茶一壶", "en": "A pot of tea"},
        "text": {"zh": "任选一款茶", "en": "Any tea"},
        "handover": {"zh": "请上茶", "en": "Serve a pot"},
        "pricePoints": 500,
        "stock": {"kind": "UNLIMITED"},
        "validFrom": written(now - timedelta(minutes=1)),
        "validTo": written(now + 30 * DAY),
        "voucherDays": 7,
        "refundDays": 7,
        "borneBy": "PROGRAMME",
    }
    return {**given, **changes}
