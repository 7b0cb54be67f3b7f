"""The merchant's desk: everything that somebody reads who works at a merchant, one room's part beside the other's."""

from __future__ import annotations

from functools import partial

import strawberry

from backend.rewards.merchants.model import Desk
from backend.rewards.offers.model import Offer
from schemas.context import Info
from schemas.counter import CounterQueries
from schemas.merchants import MemberType, MerchantAccountType
from schemas.offers import ManagedOfferType
from schemas.relay import Connection, connect_by_moment, page_span
from schemas.settlements import StatementQueries
from schemas.view import view
from schemas.webhooks import WebhookQueries


@view(of=Desk, name="MerchantDesk")
class MerchantDeskType(CounterQueries, StatementQueries, WebhookQueries):
    """Who is at work, where, and what that merchant has."""

    merchant: MerchantAccountType
    member: MemberType

    @strawberry.field(graphql_type=Connection[ManagedOfferType])
    @staticmethod
    async def offers(
        parent: strawberry.Parent[Desk],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Offer]:
        """The merchant's offers in all stages, newest first; at most 100 a page."""
        principal = info.context.require_principal()
        offers = info.context.services.rewards.offers
        list_page = partial(offers.list_of_merchant, principal, parent.merchant.id)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda offer: (offer.created_at, offer.id))


@strawberry.type
class MerchantDeskQuery:
    """The way to the desk."""

    @strawberry.field(graphql_type=MerchantDeskType)
    async def merchant_desk(self, info: Info) -> Desk:
        """The desk of whoever works at a merchant, suspended or not; FORBIDDEN for anybody else."""
        principal = info.context.require_principal()
        return await info.context.services.rewards.merchants.desk(principal)
