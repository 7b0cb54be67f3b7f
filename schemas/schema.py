"""Composes the schema from the capabilities' parts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import strawberry
from strawberry.extensions import AddValidationRules, MaxTokensLimiter
from strawberry.schema.config import StrawberryConfig

from backend.actions.model import Action
from backend.identity.model import Citizen
from backend.kernel.errors import InvalidInputError, Text
from backend.kernel.ids import ActionId, CitizenId
from backend.market.exchange.model import Instrument, Order, Trade
from backend.market.neutrality.model import Neutralisation
from backend.market.pooling.model import Batch
from backend.market.retirement.model import Certificate
from backend.rewards.merchants.model import Merchant
from backend.rewards.offers.model import Offer
from backend.rewards.settlement.model import Statement
from backend.rewards.vouchers.model import Voucher, VoucherId
from schemas.actions import ActionsMutation, ActionsQuery, ActionsSubscription
from schemas.backtests import BacktestsMutation, BacktestsSubscription
from schemas.batches import BatchesMutation, BatchesQuery, find_batch
from schemas.benefits import BenefitsMutation
from schemas.citizens import CitizensQuery, CitizenType, EnterpriseType, MerchantType, PartnerType, StaffType
from schemas.context import Info
from schemas.counter import CounterMutation
from schemas.enterprises import EnterprisesMutation
from schemas.exchange import ExchangeMutation
from schemas.families import FamiliesMutation
from schemas.faults import ShowErrors
from schemas.fund_changes import FundsMutation
from schemas.limits import MAX_TOKENS, LimitRule
from schemas.market_data import MarketDataQuery, MarketDataSubscription, find_instrument, find_trade
from schemas.merchant_changes import MerchantsMutation
from schemas.merchant_desk import MerchantDeskQuery
from schemas.merchants import MerchantsQuery, find_public_merchant
from schemas.neutrality import NeutralityMutation, NeutralityQuery, find_neutralisation
from schemas.offer_changes import OffersMutation
from schemas.offers import OffersQuery, find_public_offer
from schemas.orders import OrdersMutation, OrdersQuery, OrdersSubscription, find_order
from schemas.points import PointsMutation
from schemas.pooling import PoolingMutation, PoolingQuery
from schemas.programme import ProgrammeQuery
from schemas.provenance import ProvenanceQuery
from schemas.refusals import HANDLERS, RefusalInterface
from schemas.relay import MAX_PAGE, Node, from_global_id
from schemas.restatements import RestatementsMutation
from schemas.retirement import RetirementMutation, RetirementQuery, find_certificate
from schemas.reviews import ReviewsMutation
from schemas.rule_drafts import AdminQueries, RuleDraftsMutation
from schemas.rules import RulesQuery
from schemas.scalars import SCALARS
from schemas.sealing import SealingQuery
from schemas.settlements import SettlementsMutation, find_statement
from schemas.vouchers import VouchersMutation, VouchersSubscription
from schemas.webhooks import WebhooksMutation

SNAPSHOT = Path(__file__).with_name("schema.graphql")
# What ``node`` may find.
Found = (
    Action
    | Batch
    | Certificate
    | Citizen
    | Instrument
    | Merchant
    | Neutralisation
    | Offer
    | Order
    | Statement
    | Trade
    | Voucher
)
# What everybody may see, or what looks by itself who asks.
PUBLIC: dict[str, Callable[[Info, Any], Awaitable[Found | None]]] = {
    "Batch": find_batch,
    "Certificate": find_certificate,
    "Instrument": find_instrument,
    "Merchant": find_public_merchant,
    "Neutralisation": find_neutralisation,
    "Offer": find_public_offer,
    "Order": find_order,
    "Trade": find_trade,
}


@strawberry.type
class NodeQuery:
    """Relay's entry points."""

    @strawberry.field(graphql_type=Node | None)
    async def node(self, info: Info, id: strawberry.ID) -> Found | None:  # noqa: A002 - Relay's name
        """Whatever has this global id; null where nothing has or the caller may not see it."""
        return await _find_node(info, id)

    @strawberry.field(graphql_type=list[Node | None])
    async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Found | None]:
        """The same for up to 100 ids, in their order."""
        if len(ids) > MAX_PAGE:
            raise InvalidInputError("ids", Text(f"最多 {MAX_PAGE} 个", f"at most {MAX_PAGE}"))
        # Together, so that the loaders read them all at once.
        return await asyncio.gather(*(_find_node(info, global_id) for global_id in ids))


async def _find_node(info: Info, global_id: str) -> Found | None:
    type_name, local_id = from_global_id(global_id) or ("", "")
    if type_name in PUBLIC:
        return await PUBLIC[type_name](info, local_id)
    if type_name == "Action":
        action = await info.context.actions.load(ActionId(local_id))
        return action if action is not None and info.context.may_see(action.citizen) else None
    if type_name == "Citizen" and info.context.may_see(CitizenId(local_id)):
        return await info.context.citizens.load(CitizenId(local_id))
    if type_name == "Statement":
        return await find_statement(info, local_id)
    if type_name == "Voucher":
        voucher = await info.context.vouchers.load(VoucherId(local_id))
        return voucher if voucher is not None and await info.context.may_see_voucher(voucher) else None
    return None


@strawberry.type
class Query(
    ActionsQuery,
    AdminQueries,
    BatchesQuery,
    CitizensQuery,
    MarketDataQuery,
    MerchantDeskQuery,
    MerchantsQuery,
    NeutralityQuery,
    NodeQuery,
    OffersQuery,
    OrdersQuery,
    PoolingQuery,
    ProgrammeQuery,
    ProvenanceQuery,
    RetirementQuery,
    RulesQuery,
    SealingQuery,
):
    """What can be read."""


@strawberry.type
class Mutation(
    ActionsMutation,
    BacktestsMutation,
    BatchesMutation,
    BenefitsMutation,
    CounterMutation,
    EnterprisesMutation,
    ExchangeMutation,
    FamiliesMutation,
    FundsMutation,
    MerchantsMutation,
    NeutralityMutation,
    OffersMutation,
    OrdersMutation,
    PointsMutation,
    PoolingMutation,
    RestatementsMutation,
    RetirementMutation,
    ReviewsMutation,
    RuleDraftsMutation,
    SettlementsMutation,
    VouchersMutation,
    WebhooksMutation,
):
    """What can be changed; every mutation takes one input and returns its success or a refusal."""


@strawberry.type
class Subscription(
    ActionsSubscription,
    BacktestsSubscription,
    MarketDataSubscription,
    OrdersSubscription,
    VouchersSubscription,
):
    """What can be watched."""


schema = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[CitizenType, PartnerType, MerchantType, EnterpriseType, StaffType, RefusalInterface],
    config=StrawberryConfig(scalar_map=SCALARS),
    exception_handlers=HANDLERS,
    # For what Strawberry itself executes: operations over the websocket.
    extensions=[ShowErrors, lambda: MaxTokensLimiter(MAX_TOKENS), lambda: AddValidationRules([LimitRule])],
)


# graphql-core's own schema; Strawberry has no public name for it.
GRAPHQL_SCHEMA = schema._schema  # noqa: SLF001


def _describe() -> None:
    """Give every field that has a resolver the first sentence of the resolver's docstring as its description."""
    for kind in GRAPHQL_SCHEMA.type_map.values():
        for field in getattr(kind, "fields", {}).values():
            resolver = getattr(field.extensions.get("strawberry-definition"), "base_resolver", None)
            text = inspect.getdoc(resolver.wrapped_func) if resolver is not None else None
            if text and not field.description:
                field.description = text.split("\n\n")[0].replace("\n", " ").replace("``", "`")


_describe()


def export_sdl() -> str:
    """The schema as text, the same as the snapshot in ``schema.graphql``."""
    return f"{schema.as_str()}\n"
