"""Orders and holdings: what their owner and staff see of them, placing, cancelling, amending, and watching."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Any

import strawberry

from backend.identity.errors import ForbiddenError
from backend.identity.model import Citizen, Principal, PrincipalKind
from backend.identity.rules import require_name
from backend.kernel.errors import DomainError, IdempotencyConflictError, InvalidInputError, Refusal
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.model import OwnerId, citizen_owner, enterprise_owner
from backend.market.exchange import errors
from backend.market.exchange.model import (
    Amending,
    Holding,
    Instrument,
    LastCommand,
    Order,
    OrderId,
    Placing,
    order_channel,
)
from backend.market.funds.errors import EnterpriseStageError
from backend.market.traders import TRADING, owner_of
from schemas.actions import next_events
from schemas.context import Info
from schemas.enums import (
    CommandKind,
    CommandOutcome,
    EndReason,
    OrderKind,
    OrderStatus,
    Side,
    TimeInForce,
)
from schemas.market_data import instrument_id_of
from schemas.refusals import RefusalInterface, result_union, show
from schemas.relay import Connection, Node, connect_by_moment, local_id_of, page_span, to_global_id
from schemas.scalars import BigInt
from schemas.serials import SerialRangeType
from schemas.view import view


@view(of=LastCommand, name="OrderCommand")
class LastCommandType:
    """What was last asked of an order, when, and what became of it."""

    kind: CommandKind
    at: datetime
    outcome: CommandOutcome


@view(of=Order, name="Order")
class OrderType(Node):
    """An offer to buy or sell, seen by its owner and by staff; prices in fen a tonne, quantities in grams."""

    side: Side
    kind: OrderKind
    time_in_force: TimeInForce
    status: OrderStatus
    reason: EndReason | None
    price_fen: BigInt
    quantity_g: BigInt
    filled_g: BigInt
    remaining_g: BigInt
    cancelled_g: BigInt
    value_fen: BigInt
    fee_fen: BigInt
    good_until: datetime
    created_at: datetime
    last_command: LastCommandType | None

    @strawberry.field
    @staticmethod
    def instrument_id(parent: strawberry.Parent[Order]) -> strawberry.ID:
        """Global id of the instrument."""
        return to_global_id(Instrument.__name__, parent.instrument)

    @strawberry.field
    @staticmethod
    def is_queued(parent: strawberry.Parent[Order]) -> bool:
        """Whether the matcher still has something to do with it: it has not seen it, or a request on it."""
        return parent.queued_at is not None

    @strawberry.field
    @staticmethod
    def reserved_fen(parent: strawberry.Parent[Order]) -> BigInt:
        """Money that is still reserved for it; of a bid."""
        return BigInt(parent.held if parent.side is Side.BUY else 0)

    @strawberry.field
    @staticmethod
    def reserved_g(parent: strawberry.Parent[Order]) -> BigInt:
        """Credits that are still reserved for it; of an offer to sell."""
        return BigInt(parent.held // MG_PER_GRAM if parent.side is Side.SELL else 0)


@view(of=Holding, name="Holding")
class HoldingType:
    """What somebody has of one credit; its first hundred ranges of serials; what it cost and is worth, in fen."""

    grams: BigInt
    available_g: BigInt
    serials: list[SerialRangeType]
    cost_fen: BigInt
    value_fen: BigInt | None

    @strawberry.field
    @staticmethod
    def credit(parent: strawberry.Parent[Holding]) -> str:
        """The credit, as the book names it."""
        return parent.instrument

    @strawberry.field
    @staticmethod
    def instrument_id(parent: strawberry.Parent[Holding]) -> strawberry.ID:
        """Global id that its instrument has, where it is traded."""
        return to_global_id(Instrument.__name__, parent.instrument)


@strawberry.input
class OrderInput:
    """One order: a limit order with its price, or a market order without. An administrator may name a pool (batch).

    Without ``timeInForce`` a limit order waits (GTC), and a market order takes what it finds (IOC).
    """

    instrument: strawberry.ID
    side: Side
    kind: OrderKind = OrderKind.LIMIT
    price_fen: BigInt | None = None
    quantity_g: BigInt
    time_in_force: TimeInForce | None = None
    good_until: datetime | None = None
    pool: str | None = None


@strawberry.input
class PlaceOrderInput(OrderInput):
    """One order under an idempotency key of 8–64 characters."""

    idempotency_key: str


@strawberry.input
class PlaceOrdersInput:
    """1–100 orders under one idempotency key."""

    idempotency_key: str
    orders: list[OrderInput]


@strawberry.input
class CancelOrderInput:
    """An order of which the rest is to be given up."""

    idempotency_key: str
    order: strawberry.ID


@strawberry.input
class AmendOrderInput:
    """An order's new limit, or how many grams shall be open. Fewer grams at the same price keep its place."""

    idempotency_key: str
    order: strawberry.ID
    price_fen: BigInt | None = None
    quantity_g: BigInt | None = None


ANY = (IdempotencyConflictError, InvalidInputError)
MARKET = (
    errors.MarketHaltedError,
    errors.MarketClosedError,
    errors.OffLotError,
    errors.BelowMinimumError,
    errors.OffTickError,
    errors.OutsideBandError,
    errors.BelowFloorError,
)
ASKING = (errors.UnknownOrderError, errors.OrderClosedError, errors.CommandPendingError, errors.IrrevocableError)
PlaceOrderResult: Any = result_union(
    "PlaceOrderResult",
    OrderType,
    errors.UnknownInstrumentError,
    EnterpriseStageError,
    errors.PoolBuysError,
    errors.LimitOnlyError,
    *MARKET,
    errors.SelfTradeError,
    errors.TooManyOrdersError,
    errors.InsufficientMoneyError,
    errors.TooFewCreditsError,
    *ANY,
)
CancelOrderResult: Any = result_union("CancelOrderResult", OrderType, *ASKING, *ANY)
AmendOrderResult: Any = result_union("AmendOrderResult", OrderType, *ASKING, *MARKET, *ANY)


@strawberry.type
class PlacedOrders:
    """What became of each order, in the order of the input."""

    results: list[Order | RefusalInterface] = strawberry.field(graphql_type=list[PlaceOrderResult])


PlaceOrdersResult: Any = result_union("PlaceOrdersResult", PlacedOrders, errors.TooManyPlacingsError, *ANY)


def order_id_of(given: str) -> OrderId:
    """The order that an input names, by its global id or its own."""
    return OrderId(local_id_of(Order.__name__, given))


def _placing(given: OrderInput) -> Placing:
    waits = TimeInForce.GTC if given.kind is OrderKind.LIMIT else TimeInForce.IOC
    return Placing(
        instrument=instrument_id_of(given.instrument),
        side=given.side,
        kind=given.kind,
        price_fen=given.price_fen,
        quantity_g=given.quantity_g,
        time_in_force=given.time_in_force or waits,
        good_until=given.good_until,
        pool=given.pool,
    )


def own(principal: Principal | None) -> OwnerId | None:
    """In whose name a citizen or an enterprise trades; None for anybody else."""
    if principal is None:
        return None
    if principal.citizen is not None:
        return citizen_owner(principal.citizen)
    return enterprise_owner(principal.id) if principal.kind is PrincipalKind.ENTERPRISE else None


async def find_order(info: Info, local_id: str) -> Order | None:
    """The order of that id, for its owner and for staff; None for anybody else."""
    principal = info.context.principal
    found = (await info.context.services.market.orders.find([OrderId(local_id)])).get(OrderId(local_id))
    is_seen = principal is not None and found is not None
    is_seen = is_seen and (bool(principal.staff_roles) or found.owner == own(principal))  # type: ignore[union-attr]
    return found if is_seen else None


async def connect_orders(
    info: Info,
    owner: OwnerId,
    open_only: bool,  # noqa: FBT001 - a GraphQL argument
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Connection[Order]:
    """A page of an owner's orders, newest first; whoever calls has looked who asks."""

    async def list_page(**span: Any) -> list[Order]:
        return await info.context.services.market.orders.list_orders(owner, open_only=open_only, **span)

    return await connect_by_moment(
        page_span(first, after, last, before), list_page, lambda order: (order.created_at, order.id)
    )


async def _changed(info: Info, order: OrderId, change: Callable[[], Awaitable[Order]]) -> Order:
    """What the matcher made of a request on an order, as far as that is known within a second."""
    orders = info.context.services.market.orders
    found = (await orders.find([order])).get(order)
    if found is None:
        return await change()
    async with orders.watching(found.owner) as watch:
        return await watch.seen(await change())


@strawberry.type
class OrdersMutation:
    """Mutations on orders."""

    @strawberry.mutation(graphql_type=PlaceOrderResult)
    async def place_order(self, info: Info, input: PlaceOrderInput) -> Order:  # noqa: A002
        """Place an order: what it may need is reserved. Answers with what the matcher made of it within a second."""
        principal = info.context.require_principal()
        orders = info.context.services.market.orders
        async with orders.watching(owner_of(principal, input.pool)) as watch:
            return await watch.seen(await orders.place(principal, _placing(input), key=input.idempotency_key))

    @strawberry.mutation(graphql_type=PlaceOrdersResult)
    async def place_orders(self, info: Info, input: PlaceOrdersInput) -> PlacedOrders:  # noqa: A002
        """Place up to 100 orders; each is placed or refused on its own."""
        principal = info.context.require_principal()
        orders = info.context.services.market.orders
        placings = [_placing(given) for given in input.orders]
        outcomes = await orders.place_many(principal, placings, key=input.idempotency_key)
        return PlacedOrders(results=[_result(outcome, info) for outcome in outcomes])

    @strawberry.mutation(graphql_type=CancelOrderResult)
    async def cancel_order(self, info: Info, input: CancelOrderInput) -> Order:  # noqa: A002
        """Give up what is left of an order; administrators may do so with anybody's."""
        principal, order = info.context.require_principal(), order_id_of(input.order)
        orders, key = info.context.services.market.orders, input.idempotency_key
        return await _changed(info, order, lambda: orders.cancel(principal, order, key=key))

    @strawberry.mutation(graphql_type=AmendOrderResult)
    async def amend_order(self, info: Info, input: AmendOrderInput) -> Order:  # noqa: A002
        """Give an order another limit or other open grams; ``lastCommand`` says what became of it."""
        principal, order = info.context.require_principal(), order_id_of(input.order)
        amending = Amending(input.price_fen, input.quantity_g)
        orders, key = info.context.services.market.orders, input.idempotency_key
        return await _changed(info, order, lambda: orders.amend(principal, order, amending, key=key))


def _result(outcome: Order | DomainError, info: Info) -> Order | RefusalInterface:
    if isinstance(outcome, Order):
        return outcome
    if isinstance(outcome, Refusal):
        return show(outcome, info.context.language)
    raise outcome


@strawberry.type
class OrdersQuery:
    """Queries on orders."""

    @strawberry.field(graphql_type=OrderType | None)
    async def order(self, info: Info, id: strawberry.ID) -> Order | None:  # noqa: A002 - the contract's name
        """One order; null where it does not exist or is somebody else's."""
        return await find_order(info, order_id_of(id))

    @strawberry.field(graphql_type=Connection[OrderType])
    async def pool_orders(
        self,
        info: Info,
        pool: str,
        open_only: bool = False,  # noqa: FBT001, FBT002 - a GraphQL argument
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Order]:
        """The orders of a pool (its batch), newest first; at most 100 a page; for administrators."""
        principal = info.context.require_principal()
        require_name("pool", pool)
        return await connect_orders(info, owner_of(principal, pool), open_only, first, after, last, before)


@strawberry.type
class CitizenTrading:
    """What a citizen sees of their trading."""

    @strawberry.field(graphql_type=Connection[OrderType])
    @staticmethod
    async def orders(
        parent: strawberry.Parent[Citizen],
        info: Info,
        open_only: bool = False,  # noqa: FBT001, FBT002 - a GraphQL argument
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Order]:
        """The citizen's orders, newest first; at most 100 a page."""
        info.context.require_sight(parent.id)
        return await connect_orders(info, citizen_owner(parent.id), open_only, first, after, last, before)

    @strawberry.field(graphql_type=list[HoldingType])
    @staticmethod
    async def holdings(parent: strawberry.Parent[Citizen], info: Info) -> list[Holding]:
        """What the citizen has of every credit."""
        info.context.require_sight(parent.id)
        return await info.context.services.market.orders.list_holdings(citizen_owner(parent.id))


@strawberry.type
class EnterpriseTrading:
    """What an enterprise sees of its own trading."""

    @strawberry.field(graphql_type=Connection[OrderType])
    @staticmethod
    async def orders(
        parent: strawberry.Parent[Principal],
        info: Info,
        open_only: bool = False,  # noqa: FBT001, FBT002 - a GraphQL argument
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Order]:
        """Its orders, newest first; at most 100 a page."""
        return await connect_orders(info, enterprise_owner(parent.id), open_only, first, after, last, before)

    @strawberry.field(graphql_type=list[HoldingType])
    @staticmethod
    async def holdings(parent: strawberry.Parent[Principal], info: Info) -> list[Holding]:
        """What it has of every credit."""
        return await info.context.services.market.orders.list_holdings(enterprise_owner(parent.id))


@strawberry.type
class OrdersSubscription:
    """Subscriptions on orders."""

    @strawberry.subscription(graphql_type=OrderType)
    async def order_changed(self, info: Info) -> AsyncGenerator[Order, None]:
        """The caller's own orders as they enter the book, are filled or end."""
        owner = own(info.context.require_principal())
        if owner is None:
            raise ForbiddenError(TRADING)
        async with info.context.services.channels.listen(order_channel(owner)) as events:
            while True:
                ids = [OrderId(event["order"]) for event in await next_events(events)]
                info.context.require_principal()  # a websocket can outlive its token
                found = await info.context.services.market.orders.find(list(dict.fromkeys(ids)))
                for order in map(found.get, dict.fromkeys(ids)):
                    if order is not None and order.owner == owner:
                        yield order
