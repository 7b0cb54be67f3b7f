"""The schema's contract: its snapshot, the mobile app's documents, and the shape every mutation and every list has."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLUnionType,
    execute,
    get_named_type,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
    is_required_input_field,
    parse,
    validate,
)

from backend.kernel.errors import Language
from schemas.context import Context
from schemas.limits import find_excess
from schemas.request_path import GRAPHQL_SCHEMA
from schemas.schema import SNAPSHOT, export_sdl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphql import GraphQLField

OPERATIONS = sorted((Path(__file__).parents[2] / "schemas" / "operations").glob("*.graphql"))
# Mutations that anybody may call, and why.
PUBLIC_MUTATIONS: dict[str, str] = {}
# Lists that are no connections, and what bounds them.
BOUNDED_LISTS = {
    "Action.awards": "one a campaign",
    "Action.doubts": "one a sort of doubt",
    "Action.explanation": "a dozen lines",
    "Action.restatements": "one for each time its rule was corrected",
    "AdminQuery.campaigns": "those that have not ended",
    "BacktestResult.cuts": "one a cap or campaign",
    "BacktestResult.days": "at most 366",
    "BacktestResult.deciles": "at most ten",
    "BacktestResult.districts": "one a district",
    "BacktestResult.kinds": "one a kind",
    "BacktestResult.mostGaining": "at most twenty",
    "BacktestResult.mostLosing": "at most twenty",
    "BacktestResult.sample": "at most fifty",
    "BacktestSide.lines": "a dozen",
    "BatchIssuance.methodologies": "written in the rule profile",
    "BatchSample.actionIds": "at most 1,000",
    "BatchVerdict.adjustments": "at most 200",
    "Campaign.kinds": "written by staff, each once",
    "Certificate.serials": "the first hundred",
    "Citizen.pointLots": "one a month of their life, and one a day of grace",
    "CreditOrigin.acts": "the acts of one gram, nearly always one",
    "EnterpriseAccount.steps": "one a step of staff",
    "DraftBacktest.figures": "a dozen names",
    "Family.members": "at most eight",
    "Formula.baseline": "written in the rule",
    "Formula.project": "written in the rule",
    "PeriodStatement.movements": "at most 2,000, else refused",
    "Citizen.holdings": "one a batch of which they have credits",
    "Enterprise.holdings": "one a batch of which it has credits",
    "Holding.serials": "the first hundred",
    "OrderBook.asks": "at most fifty",
    "OrderBook.bids": "at most fifty",
    "PlacedOrders.results": "as many as orders, at most 100",
    "Query.candles": "at most 500",
    "Query.instruments": "one a batch that is traded",
    "Kind.requiredAttributes": "written in the rule profile",
    "Pooling.scenarios": "nine exist",
    "PoolingConsent.scenarios": "nine exist",
    "ProgrammeLimit.categories": "nine exist",
    "ProgrammeLimit.kinds": "written by staff, each once",
    "Programme.districts": "written in the preset",
    "Provenance.origins": "refused beyond 1,000",
    "Provenance.uses": "refused beyond 1,000",
    "Query.kinds": "written in the rule profile",
    "Query.nodes": "as many as ids, at most 100",
    "Query.rules": "one a kind",
    "Query.travelFactors": "one a mode of travel",
    "Receipt.path": "levels of the tree over a block, about 14",
    "RecordedActions.results": "as many as actions, at most 500",
    "RestatementCount.unrestatable": "the first twenty",
    "RestatementEstimate.largest": "the first twenty",
    "RetiredActs.kinds": "written in the rule profile",
    "RetiredCreditFacts.methodologies": "written in the rule profile",
    "Rule.versions": "written in the rule profile",
    "RuleDraft.limits": "written by staff",
    "RuleDraft.problems": "one or two a field",
    "RuleLogEntry.difference": "one a field",
    "RuleProblems.problems": "one or two a field",
    "RuleVersion.caps": "written in the rule profile",
    "RuleVersion.multipliers": "written in the rule",
    "Staff.roles": "four roles exist",
    "Voucher.captures": "one an item",
    "Voucher.refunds": "a few, each of points that were captured",
    "Voucher.shops": "at most a hundred",
    "WebhookDelivery.tries": "the last ten",
    "WebhookEndpoint.types": "three exist",
    "MerchantAccount.contracts": "at most a hundred",
    "MerchantAccount.members": "at most 500, who left included",
    "MerchantAccount.shops": "at most a hundred",
    "MerchantProfile.shops": "at most a hundred",
    "NeutralityEstimate.lines": "at most a hundred",
    "Offer.shops": "at most a hundred",
    "OfferAudience.districts": "written in the preset",
    "OfferTerms.shops": "at most a hundred",
    "OfferTerms.windows": "at most 28",
    "OfferWindow.weekdays": "seven exist",
    "Shop.hours": "at most 28",
    "MerchantDesk.captured": "at most 500",
    "MerchantDesk.webhookEndpoints": "at most ten",
}


def test_the_schema_equals_its_snapshot() -> None:
    difference = difflib.unified_diff(
        SNAPSHOT.read_text("utf-8").splitlines(), export_sdl().splitlines(), "schema.graphql", "the code", lineterm=""
    )
    assert not list(difference), "the schema changed; `tanhui schema export` accepts it"


@pytest.mark.parametrize("path", OPERATIONS, ids=[path.stem for path in OPERATIONS])
def test_the_apps_documents_are_valid_and_within_the_limits(path: Path) -> None:
    document = parse(path.read_text("utf-8"))
    assert validate(GRAPHQL_SCHEMA, document) == []
    assert find_excess(GRAPHQL_SCHEMA, document) is None
    # One operation a file, of the file's name.
    (operation,) = document.definitions
    assert operation.name.value == path.stem  # type: ignore[attr-defined]


def test_the_app_has_documents() -> None:
    assert {path.stem for path in OPERATIONS} >= {"Home", "RecordAction", "RecordActions", "Statement", "ActionSettled"}


def mutations() -> dict[str, GraphQLField]:
    """Every mutation by name."""
    root = GRAPHQL_SCHEMA.mutation_type
    assert root is not None
    return dict(root.fields)


@pytest.mark.parametrize("name", mutations())
def test_a_mutation_takes_one_input_with_an_idempotency_key(name: str) -> None:
    arguments = mutations()[name].args
    assert list(arguments) == ["input"]
    assert is_non_null_type(arguments["input"].type)
    given = get_named_type(arguments["input"].type)
    assert isinstance(given, GraphQLInputObjectType)
    assert str(given.fields["idempotencyKey"].type) == "String!"


@pytest.mark.parametrize("name", mutations())
def test_a_mutation_returns_its_success_or_a_refusal(name: str) -> None:
    result = get_named_type(mutations()[name].type)
    assert isinstance(result, GraphQLUnionType)
    refusal = GRAPHQL_SCHEMA.get_type("Refusal")
    assert isinstance(refusal, GraphQLInterfaceType)
    assert {field: str(shown.type) for field, shown in refusal.fields.items()} == {
        "code": "ErrorCode!",
        "message": "String!",
    }
    successes = [member.name for member in result.types if refusal not in member.interfaces]
    refusals = {member.name for member in result.types if refusal in member.interfaces}
    assert len(successes) == 1
    assert refusals >= {"IdempotencyConflict", "InvalidInput"}


@pytest.mark.parametrize("name", mutations())
def test_a_success_has_no_field_that_a_refusal_has_in_another_type(name: str) -> None:
    result = get_named_type(mutations()[name].type)
    assert isinstance(result, GraphQLUnionType)
    refusal = GRAPHQL_SCHEMA.get_type("Refusal")
    # Else no document could ask for both: "fields conflict because they return conflicting types".
    assert [m.name for m in result.types if refusal not in m.interfaces and {"code", "message"} & set(m.fields)] == []


class Untouchable:
    """Services that nobody may use before it is known who asks."""

    def __getattr__(self, name: str) -> NoReturn:
        message = f"{name} was used before anybody signed in"
        raise AssertionError(message)


def sample(shown: Any) -> Any:
    """Some value of an input type."""
    kind = get_nullable_type(shown)
    if is_list_type(kind):
        return [sample(kind.of_type)]
    if isinstance(kind, GraphQLInputObjectType):
        return {name: sample(field.type) for name, field in kind.fields.items() if is_required_input_field(field)}
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    return {
        "DateTime": "2026-11-21T08:30:00+08:00",
        "Date": "2026-11-21",
        "BigInt": 1,
        "Int": 1,
        "Boolean": True,
        "JSON": {},
    }.get(kind.name, "text-of-8-or-more")


@pytest.mark.anyio
@pytest.mark.parametrize("name", mutations())
async def test_a_mutation_asks_who_calls_before_anything_else(name: str) -> None:
    services: Any = Untouchable()
    document = f"mutation ($input: {mutations()[name].args['input'].type}) {{ {name}(input: $input) {{ __typename }} }}"
    outcome = execute(
        GRAPHQL_SCHEMA,
        parse(document),
        context_value=Context(services, None, Language.EN),
        variable_values={"input": sample(mutations()[name].args["input"].type)},
    )
    result: Any = await outcome if hasattr(outcome, "__await__") else outcome
    (error,) = result.errors
    expected = "AssertionError" if name in PUBLIC_MUTATIONS else "UnauthenticatedError"
    assert type(error.original_error).__name__ == expected


def list_fields() -> Iterator[str]:
    """Every list that an object shows, but for the inside of connections."""
    for name, shown in GRAPHQL_SCHEMA.type_map.items():
        if isinstance(shown, GraphQLObjectType | GraphQLInterfaceType) and not name.startswith("__"):
            for field, definition in shown.fields.items():
                if is_list_type(get_nullable_type(definition.type)) and not name.endswith("Connection"):
                    yield f"{name}.{field}"


def test_every_list_is_a_connection_or_bounded_for_a_known_reason() -> None:
    assert set(list_fields()) == set(BOUNDED_LISTS)


def test_every_connection_takes_the_four_arguments() -> None:
    found = {
        f"{name}.{field}": list(definition.args)
        for name, shown in GRAPHQL_SCHEMA.type_map.items()
        if isinstance(shown, GraphQLObjectType)
        for field, definition in shown.fields.items()
        if get_named_type(definition.type).name.endswith("Connection")
    }
    assert set(found) == {
        "AdminQuery.backtests",
        "AdminQuery.batches",
        "AdminQuery.benefitRounds",
        "AdminQuery.deposits",
        "AdminQuery.disputes",
        "AdminQuery.enterprises",
        "AdminQuery.merchantLog",
        "AdminQuery.merchants",
        "AdminQuery.offersToApprove",
        "AdminQuery.payouts",
        "AdminQuery.restatements",
        "AdminQuery.reviewQueue",
        "AdminQuery.ruleDrafts",
        "AdminQuery.ruleLog",
        "AdminQuery.statements",
        "Citizen.actions",
        "Citizen.benefits",
        "Citizen.orders",
        "Citizen.contributions",
        "Citizen.statement",
        "Citizen.vouchers",
        "Enterprise.orders",
        "MerchantDesk.offers",
        "MerchantDesk.statements",
        "MerchantDesk.webhookDeliveries",
        "Money.payouts",
        "Money.statement",
        "Query.certificates",
        "Query.listedInstruments",
        "Query.neutralisations",
        "Query.offers",
        "Query.poolOrders",
        "Query.trades",
        "Pooling.history",
        "Query.registry",
        "Query.retirements",
        "Statement.lines",
    }
    for arguments in found.values():
        assert arguments[-4:] == ["first", "after", "last", "before"]
