"""What a document may cost: tokens, nesting, and the fields its answer may have; the same over HTTP and websocket.

Without the last, 4 KB of aliases on one list keep a process busy for seconds. Estimates, no measurement: a list counts
as long as it may become, whatever it holds today, and what takes a query of its own counts as many fields.
"""

from __future__ import annotations

from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    get_named_type,
    get_nullable_type,
    is_list_type,
)

from backend.actions.restatements import MAX_NAMED
from backend.actions.rules import MAX_BATCH
from schemas.relay import DEFAULT_PAGE, MAX_PAGE

MAX_TOKENS = 2_000
MAX_DEPTH = 12
MAX_COST = 10_000
# Lists without arguments: as long as they get in a programme of many kinds.
USUAL_LIST = 50
MAX_DIGITS = 3
LIST_SIZES = {
    "Action.awards": 3,
    "Action.doubts": 3,
    "Action.restatements": 2,
    "BacktestResult.days": 366,
    "BacktestResult.deciles": 10,
    "BacktestResult.districts": 20,
    "BacktestResult.mostGaining": 20,
    "BacktestResult.mostLosing": 20,
    "BacktestSide.lines": 12,
    "BatchSample.actionIds": 1_000,
    "BatchVerdict.adjustments": 20,
    "CertificateOrigin.methodologies": 10,
    # Of as many batches as somebody trades in.
    "Citizen.holdings": 20,
    "Citizen.pointLots": 40,
    "DraftBacktest.figures": 12,
    "Enterprise.holdings": 20,
    "Family.members": 8,
    "Formula.baseline": 5,
    "Formula.project": 5,
    "Holding.serials": 100,
    "NeutralityEstimate.lines": 20,
    "OrderBook.asks": 50,
    "OrderBook.bids": 50,
    # As many as somebody active has in a year; the read itself ends at two thousand.
    "PeriodStatement.movements": 1_000,
    "Provenance.origins": 1_000,
    "Provenance.uses": 1_000,
    "PlacedOrders.results": 100,
    "Query.candles": 500,
    "Query.instruments": 100,
    "Query.nodes": MAX_PAGE,
    # Levels of the tree over the largest block.
    "Receipt.path": 20,
    "RecordedActions.results": MAX_BATCH,
    "RestatementCount.unrestatable": MAX_NAMED,
    "RestatementEstimate.largest": MAX_NAMED,
    "MerchantAccount.contracts": 5,
    "MerchantAccount.members": 50,
    "MerchantAccount.shops": 10,
    "MerchantDesk.captured": 500,
    "MerchantDesk.webhookEndpoints": 10,
    "MerchantProfile.shops": 10,
    "Offer.shops": 10,
    "OfferAudience.districts": 10,
    "OfferTerms.shops": 10,
    "OfferTerms.windows": 7,
    "OfferWindow.weekdays": 7,
    "ProgrammeLimit.categories": 9,
    "Rule.versions": 20,
    "RuleDraft.limits": 10,
    "RuleDraft.problems": 10,
    "RuleLogEntry.difference": 30,
    "RuleProblems.problems": 10,
    "RuleVersion.caps": 5,
    "RuleVersion.multipliers": 5,
    "Shop.hours": 14,
    "Voucher.captures": 20,
    "Voucher.refunds": 20,
    "Voucher.shops": 5,
    "WebhookDelivery.tries": 10,
    "WebhookEndpoint.types": 3,
}
# What reading a field costs by itself, in fields, where that is far more than showing it.
READ_COSTS = {
    "Citizen.balanceAt": 20,
    "Citizen.family": 20,
    "Citizen.periodStatement": 1_000,
    "Citizen.holdings": 100,
    "Enterprise.holdings": 100,
    "Instrument.ticker": 20,
    "Query.block": 50,
    # Reads up to ten thousand minutes.
    "Query.candles": 1_000,
    # Goes through every open order of the instrument.
    "Query.orderBook": 1_000,
    # Near a place it looks at every offer within the radius.
    "Query.offers": 200,
    "Query.provenance": 1_000,
    "Query.receipt": 500,
    # Looks through all actions.
    "RuleDraft.affected": 1_000,
    # Reads the book from the statement's beginning, or from the cursor.
    "Statement.lines": 100,
    "Voucher.partnerCode": 20,
    # Drawing a QR code takes five milliseconds.
    "VoucherCode.png": 100,
    "VoucherCode.svg": 100,
}


def find_excess(schema: GraphQLSchema, document: DocumentNode) -> GraphQLError | None:
    """The limit of nesting or of cost that the document passes, if it does."""
    message = None
    if _depth(document) > MAX_DEPTH:
        message = f"the document is nested deeper than {MAX_DEPTH} levels"
    elif _Cost(schema, document).highest() > MAX_COST:
        message = f"the answer may have more than {MAX_COST} fields; ask for less at once"
    return GraphQLError(message, extensions={"code": "COST_LIMIT"}) if message else None


class LimitRule(ValidationRule):
    """The same for documents that Strawberry validates."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        excess = find_excess(context.schema, context.document)
        if excess is not None:
            context.report_error(excess)


def _depth(node: Any, level: int = 0) -> int:
    """Levels of selection sets as written; fragments count where they are defined."""
    selections = getattr(getattr(node, "selection_set", None), "selections", ())
    children = node.definitions if isinstance(node, DocumentNode) else selections
    if level > MAX_DEPTH:
        return level
    return max((_depth(child, level + 1) for child in children), default=level)


class _Cost:
    """Counts the fields that answers to a document may have; what the schema does not know counts as one."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode) -> None:
        self._schema = schema
        self._operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        # Each fragment is counted once per length of page it stands in; meanwhile as nothing, should it hold itself.
        self._known: dict[tuple[str, int], int] = {}

    def highest(self) -> int:
        """The most any of the document's operations may cost."""
        return max(
            (
                self._of(operation.selection_set, self._schema.get_root_type(operation.operation), DEFAULT_PAGE)
                for operation in self._operations
            ),
            default=0,
        )

    def _of(self, selections: SelectionSetNode | None, parent: GraphQLNamedType | None, page: int) -> int:
        total = 0
        for selection in selections.selections if selections else ():
            if isinstance(selection, FieldNode):
                total += self._field(selection, parent, page)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                on = self._schema.get_type(condition.name.value) if condition else parent
                total += self._of(selection.selection_set, on, page)
            elif isinstance(selection, FragmentSpreadNode):
                total += self._fragment(selection.name.value, page)
        return total

    def _fragment(self, name: str, page: int) -> int:
        fragment = self._fragments.get(name)
        if fragment is None:
            return 1
        if (name, page) not in self._known:
            self._known[name, page] = 0
            on = self._schema.get_type(fragment.type_condition.name.value)
            self._known[name, page] = self._of(fragment.selection_set, on, page)
        return self._known[name, page]

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None, page: int) -> int:
        definition = getattr(parent, "fields", {}).get(node.name.value)
        if definition is None or parent is None:
            return 1
        shown = get_named_type(definition.type)
        name, times = f"{parent.name}.{node.name.value}", 1
        if is_list_type(get_nullable_type(definition.type)):
            in_connection = parent.name.endswith("Connection")
            times = page if in_connection else LIST_SIZES.get(name, USUAL_LIST)
        inner = _page_length(node) if shown.name.endswith("Connection") else page
        return READ_COSTS.get(name, 1) + times * self._of(node.selection_set, shown, inner)


def _page_length(node: FieldNode) -> int:
    """How long a page the field asks for; as long as allowed where a variable will tell."""
    for argument in node.arguments or ():
        if argument.name.value in {"first", "last"}:
            given = argument.value
            # A number with a sign or many digits is refused when it is executed; here it must not count as cheap.
            text = given.value if isinstance(given, IntValueNode) else ""
            return min(int(text), MAX_PAGE) if text.isdecimal() and len(text) <= MAX_DIGITS else MAX_PAGE
    return DEFAULT_PAGE
