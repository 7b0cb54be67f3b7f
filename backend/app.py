"""The ASGI application: mounts and lifespan, nothing else. Run it with ``tanhui api`` or ``tanhui up``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from backend.certificates.routes import certificate_routes
from backend.exports import batch_routes, export_routes, statement_routes
from backend.kernel.errors import UnavailableError
from backend.metrics import METRICS_TYPE, metrics_text
from backend.pictures import picture_routes
from backend.process.memory import collect_rarely
from backend.runtime import open_services
from backend.settings import Settings
from backend.wellknown import wellknown_routes
from schemas.context import authenticate, preferred_language
from schemas.request_path import GraphQLEndpoint
from schemas.websocket import GraphQLSocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from backend.runtime import Services


def create_app(services: Services | None = None) -> FastAPI:
    """The application: on the given services, or (for uvicorn's factory) on its own for as long as it serves."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if services is not None:
            _mount(app, services)
            yield
            return
        async with open_services(Settings()) as opened:
            _mount(app, opened)
            collect_rarely()
            yield

    return FastAPI(title="Tanhui", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)


def _mount(app: FastAPI, services: Services) -> None:
    async def ready(_: Request) -> Response:
        """200 once MongoDB answers, else 503."""
        try:
            await services.database.ping()
        except UnavailableError:
            return PlainTextResponse("mongodb does not answer\n", 503)
        return PlainTextResponse("ready\n")

    async def metrics(_: Request) -> Response:
        """What Prometheus reads; 503 where MongoDB does not answer."""
        try:
            return Response(await metrics_text(services), media_type=METRICS_TYPE)
        except UnavailableError:
            return PlainTextResponse("mongodb does not answer\n", 503)

    app.router.routes += [
        Route("/readyz", ready),
        Route("/metrics", metrics),
        Route("/graphql", GraphQLEndpoint(services).answer, methods=["POST"]),
        WebSocketRoute("/graphql", GraphQLSocket(services)),
        *export_routes(services, authenticate),
        *statement_routes(services.rewards.settlement, services.tokens, authenticate, preferred_language),
        *batch_routes(services.market.pooling.files, services.tokens, authenticate, preferred_language),
        *picture_routes(services, authenticate, preferred_language),
        *certificate_routes(services, preferred_language),
        *wellknown_routes(services),
    ]
