"""Webhooks of a merchant: where its systems are called, what was and is sent to them; for its owners."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import strawberry

from backend.kernel.clock import to_milliseconds
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError
from backend.rewards.merchants.errors import MerchantStageError
from backend.rewards.merchants.model import MerchantStage
from backend.rewards.webhooks import errors
from backend.rewards.webhooks.model import (
    Delivery,
    DeliveryId,
    Endpoint,
    EndpointDraft,
    EndpointId,
    ShownEndpoint,
    Try,
)
from schemas.context import Info
from schemas.enums import DeliveryStage, DisabledReason, EndpointStage, EventType, Fault
from schemas.refusals import result_union
from schemas.relay import Connection, connect_by_moment, page_span
from schemas.view import view


@view(of=Endpoint, name="WebhookEndpoint")
class EndpointType:
    """Where a merchant's system is called, and of what; ``reason`` says why it is disabled."""

    id: strawberry.ID
    url: str
    description: str
    stage: EndpointStage
    reason: DisabledReason | None
    failing_since: datetime | None

    @strawberry.field
    @staticmethod
    def types(parent: strawberry.Parent[Endpoint]) -> list[EventType]:
        """The events it is called for."""
        return [event for event in EventType if event in parent.types]

    @strawberry.field
    @staticmethod
    def created_at(parent: strawberry.Parent[Endpoint]) -> datetime:
        """When it was made."""
        return parent.made_at

    @strawberry.field
    @staticmethod
    def old_secret_until(parent: strawberry.Parent[Endpoint], info: Info) -> datetime | None:
        """Until when calls are signed with the secret before the last rotation, too; null once that is over."""
        previous = parent.previous
        return previous.ends_at if previous and previous.ends_at > info.context.services.clock.now() else None


@view(of=ShownEndpoint, name="WebhookSecret")
class SecretType:
    """An endpoint with the secret that its calls are signed with; told here, and again only to who repeats this."""

    secret: str

    @strawberry.field(graphql_type=EndpointType)
    @staticmethod
    def endpoint(parent: strawberry.Parent[ShownEndpoint]) -> Endpoint:
        """The endpoint as it is now."""
        return parent.endpoint


@strawberry.type
class WebhookEndpointDeleted:
    """The endpoint and its secret are forgotten."""

    endpoint: strawberry.ID


@strawberry.type
class DeadWebhooksReplayed:
    """So many dead deliveries are on their way again."""

    count: int


@view(of=Try, name="WebhookTry")
class TryType:
    """One try to deliver: the HTTP status answered, or why there was none; how long it took in milliseconds."""

    at: datetime
    status: int | None
    fault: Fault | None
    took_ms: int


@view(of=Delivery, name="WebhookDelivery")
class DeliveryType:
    """One event on its way to one endpoint; ``dueAt`` is when it is tried next, ``body`` what is sent each time."""

    id: strawberry.ID
    endpoint: strawberry.ID
    event: strawberry.ID
    type: EventType
    body: str
    at: datetime
    stage: DeliveryStage
    due_at: datetime | None
    attempts: int

    @strawberry.field(graphql_type=list[TryType])
    @staticmethod
    def tries(parent: strawberry.Parent[Delivery]) -> tuple[Try, ...]:
        """The last ten tries, first things first."""
        return parent.tries


@strawberry.input
class CreateWebhookEndpointInput:
    """An https address, the events it wants, and a note of at most 100 characters for people."""

    idempotency_key: str
    url: str
    types: list[EventType]
    description: str = ""


@strawberry.input
class UpdateWebhookEndpointInput:
    """What an endpoint is from now on, in the place of all that it was; enabling forgets why it was disabled."""

    idempotency_key: str
    endpoint: strawberry.ID
    url: str
    types: list[EventType]
    description: str
    stage: EndpointStage


@strawberry.input
class RotateWebhookSecretInput:
    """The endpoint that gets a new secret."""

    idempotency_key: str
    endpoint: strawberry.ID


@strawberry.input
class DeleteWebhookEndpointInput:
    """The endpoint to forget."""

    idempotency_key: str
    endpoint: strawberry.ID


@strawberry.input
class TestWebhookEndpointInput:
    """The endpoint to be tried."""

    idempotency_key: str
    endpoint: strawberry.ID


@strawberry.input
class ReplayWebhookDeliveryInput:
    """The delivery to be sent again."""

    idempotency_key: str
    delivery: strawberry.ID


@strawberry.input
class ReplayDeadWebhooksInput:
    """An endpoint, and since when what happened is to be sent to it again."""

    idempotency_key: str
    endpoint: strawberry.ID
    since: datetime


ANY = (IdempotencyConflictError, InvalidInputError)
NOWHERE = (errors.UnknownEndpointError, errors.EndpointDisabledError)
CreateWebhookEndpointResult: Any = result_union(
    "CreateWebhookEndpointResult",
    SecretType,
    MerchantStageError,
    errors.TooManyEndpointsError,
    errors.UnknownEndpointError,
    *ANY,
)
UpdateWebhookEndpointResult: Any = result_union(
    "UpdateWebhookEndpointResult", EndpointType, MerchantStageError, errors.UnknownEndpointError, *ANY
)
RotateWebhookSecretResult: Any = result_union(
    "RotateWebhookSecretResult", SecretType, errors.UnknownEndpointError, errors.OldSecretInForceError, *ANY
)
DeleteWebhookEndpointResult: Any = result_union(
    "DeleteWebhookEndpointResult", WebhookEndpointDeleted, errors.UnknownEndpointError, *ANY
)
TestWebhookEndpointResult: Any = result_union(
    "TestWebhookEndpointResult",
    DeliveryType,
    MerchantStageError,
    *NOWHERE,
    errors.TooManyTestsError,
    errors.UnknownDeliveryError,
    *ANY,
)
ReplayWebhookDeliveryResult: Any = result_union(
    "ReplayWebhookDeliveryResult", DeliveryType, errors.UnknownDeliveryError, *NOWHERE, *ANY
)
ReplayDeadWebhooksResult: Any = result_union("ReplayDeadWebhooksResult", DeadWebhooksReplayed, *NOWHERE, *ANY)


async def _merchant(info: Info, *, calls: bool = False) -> tuple[str, str]:
    """The merchant that the caller owns, and the caller as actor; who wants to be called must be approved.

    Raises:
        MerchantStageError: the merchant is not.
    """
    principal = info.context.require_principal()
    merchant = (await info.context.services.rewards.merchants.owner_desk(principal)).merchant
    if calls and merchant.stage is not MerchantStage.APPROVED:
        raise MerchantStageError(merchant.id, merchant.stage)
    return merchant.id, str(principal)


@strawberry.type
class WebhooksMutation:
    """Mutations on webhooks, each for owners of the merchant."""

    @strawberry.mutation(graphql_type=CreateWebhookEndpointResult)
    async def create_webhook_endpoint(self, info: Info, input: CreateWebhookEndpointInput) -> ShownEndpoint:  # noqa: A002
        """Let an address be called from now on, of an approved merchant; at most ten each."""
        merchant, actor = await _merchant(info, calls=True)
        draft = EndpointDraft(input.url, frozenset(input.types), input.description)
        webhooks = info.context.services.rewards.webhooks
        return await webhooks.create_endpoint(merchant, draft, actor=actor, key=input.idempotency_key)

    @strawberry.mutation(graphql_type=UpdateWebhookEndpointResult)
    async def update_webhook_endpoint(self, info: Info, input: UpdateWebhookEndpointInput) -> Endpoint:  # noqa: A002
        """Write an endpoint anew, or disable or enable it; what is active is an approved merchant's."""
        merchant, actor = await _merchant(info, calls=input.stage is EndpointStage.ACTIVE)
        draft = EndpointDraft(input.url, frozenset(input.types), input.description, input.stage)
        return await info.context.services.rewards.webhooks.update_endpoint(
            merchant, EndpointId(input.endpoint), draft, actor=actor, key=input.idempotency_key
        )

    @strawberry.mutation(graphql_type=RotateWebhookSecretResult)
    async def rotate_webhook_secret(self, info: Info, input: RotateWebhookSecretInput) -> ShownEndpoint:  # noqa: A002
        """Give an endpoint a new secret; for 24 hours calls are signed with the old one, too, and no other is given."""
        merchant, actor = await _merchant(info)
        return await info.context.services.rewards.webhooks.rotate_secret(
            merchant, EndpointId(input.endpoint), actor=actor, key=input.idempotency_key
        )

    @strawberry.mutation(graphql_type=DeleteWebhookEndpointResult)
    async def delete_webhook_endpoint(
        self,
        info: Info,
        input: DeleteWebhookEndpointInput,  # noqa: A002
    ) -> WebhookEndpointDeleted:
        """Forget an endpoint; what was on its way to it is not sent any more."""
        merchant, actor = await _merchant(info)
        await info.context.services.rewards.webhooks.delete_endpoint(
            merchant, EndpointId(input.endpoint), actor=actor, key=input.idempotency_key
        )
        return WebhookEndpointDeleted(endpoint=input.endpoint)

    @strawberry.mutation(graphql_type=TestWebhookEndpointResult)
    async def test_webhook_endpoint(self, info: Info, input: TestWebhookEndpointInput) -> Delivery:  # noqa: A002
        """Send an event that stands for nothing, to see whether an approved merchant's system hears; once a minute."""
        merchant, actor = await _merchant(info, calls=True)
        return await info.context.services.rewards.webhooks.send_test(
            merchant, EndpointId(input.endpoint), actor=actor, key=input.idempotency_key
        )

    @strawberry.mutation(graphql_type=ReplayWebhookDeliveryResult)
    async def replay_webhook_delivery(self, info: Info, input: ReplayWebhookDeliveryInput) -> Delivery:  # noqa: A002
        """Send one delivery again, whatever became of it."""
        merchant, actor = await _merchant(info)
        return await info.context.services.rewards.webhooks.replay(
            merchant, DeliveryId(input.delivery), actor=actor, key=input.idempotency_key
        )

    @strawberry.mutation(graphql_type=ReplayDeadWebhooksResult)
    async def replay_dead_webhooks(self, info: Info, input: ReplayDeadWebhooksInput) -> DeadWebhooksReplayed:  # noqa: A002
        """Send an endpoint's dead deliveries again, the oldest 1,000; a repeated request sends none and counts 0."""
        merchant, actor = await _merchant(info)
        count = await info.context.services.rewards.webhooks.replay_dead(
            merchant, EndpointId(input.endpoint), to_milliseconds(input.since), actor=actor, key=input.idempotency_key
        )
        return DeadWebhooksReplayed(count=count)


@strawberry.type
class WebhookQueries:
    """What a merchant's owners read of its webhooks."""

    @strawberry.field(graphql_type=list[EndpointType])
    async def webhook_endpoints(self, info: Info) -> list[Endpoint]:
        """The merchant's endpoints, the oldest first; for owners."""
        merchant, _ = await _merchant(info)
        return await info.context.services.rewards.webhooks.list_endpoints(merchant)

    @strawberry.field(graphql_type=Connection[DeliveryType])
    async def webhook_deliveries(
        self,
        info: Info,
        stage: DeliveryStage | None = None,
        endpoint: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Delivery]:
        """What was and is sent, newest first, at most 100 a page; for owners."""
        merchant, _ = await _merchant(info)
        wanted = EndpointId(endpoint) if endpoint is not None else None
        webhooks = info.context.services.rewards.webhooks
        list_page = partial(webhooks.list_deliveries, merchant, endpoint=wanted, stage=stage)
        span = page_span(first, after, last, before)
        return await connect_by_moment(span, list_page, lambda delivery: (delivery.at, delivery.id))
