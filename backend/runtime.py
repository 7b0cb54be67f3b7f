"""Builds the services of one process, once: the same for API, workers, commands and tests."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.actions.importing import Importing
from backend.actions.rules import Window
from backend.actions.service import Actions
from backend.actions.settling import SETTLED_TOPIC, Settling
from backend.actions.store import COLLECTIONS as ACTION_COLLECTIONS
from backend.actions.store import ActionStore
from backend.identity.service import Identity
from backend.identity.store import COLLECTIONS as IDENTITY_COLLECTIONS
from backend.identity.store import IdentityStore
from backend.identity.tokens import Tokens
from backend.kernel.clock import SystemClock
from backend.kernel.crypto import load_lookup_key, load_signing_key
from backend.ledger.service import Ledger
from backend.ledger.store import COLLECTIONS as LEDGER_COLLECTIONS
from backend.mongo.client import open_database
from backend.mongo.idempotency import IDEMPOTENCY_KEYS, IdempotencyKeys
from backend.mongo.migrations import migrate
from backend.mongo.transactions import Transactions
from backend.outbox.relay import OUTBOX, Relay
from backend.programme.model import shipped_programme
from backend.rules.profile import shipped_profile
from backend.rules.service import Rules
from backend.rules.store import COLLECTIONS as RULE_COLLECTIONS
from backend.rules.store import RuleStore
from backend.valkey.channels import Channels
from backend.valkey.client import open_valkey
from backend.valkey.leases import Leases
from backend.valkey.nudges import Nudges
from backend.valkey.task_queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from backend.kernel.clock import Clock
    from backend.mongo.client import Database
    from backend.outbox.relay import Item
    from backend.programme.model import Programme
    from backend.settings import Settings

COLLECTIONS = (
    IDEMPOTENCY_KEYS,
    OUTBOX,
    *LEDGER_COLLECTIONS,
    *RULE_COLLECTIONS,
    *IDENTITY_COLLECTIONS,
    *ACTION_COLLECTIONS,
)
SETTLE_TASK = "actions.settle"


@dataclass(frozen=True)
class Services:
    """Everything a face may call."""

    settings: Settings
    clock: Clock
    programme: Programme
    database: Database
    valkey: Redis
    channels: Channels
    nudges: Nudges
    tokens: Tokens
    identity: Identity
    rules: Rules
    ledger: Ledger
    actions: Actions
    settling: Settling
    importing: Importing
    relay: Relay


def citizen_channel(citizen: str) -> str:
    """The channel on which a citizen's phones are told."""
    return f"citizen:{citizen}"


@asynccontextmanager
async def open_services(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Connect, bring the database to the declared state, publish the shipped rules, and close it all at the end.

    Raises:
        ValueError: a server URL is missing (whoever composes starts the embedded servers first).
        PresetError, ProfileError: the programme or its rule profile cannot be used.
        UnavailableError: MongoDB does not answer.
    """
    if settings.mongodb_url is None or settings.valkey_url is None:
        raise ValueError(
            "TANHUI_MONGODB_URL and TANHUI_VALKEY_URL are needed here; `tanhui up` starts embedded servers"
        )
    clock = clock or SystemClock()
    programme = shipped_programme(settings.programme)
    async with AsyncExitStack() as stack:
        database = open_database(settings.mongodb_url, settings.database)
        stack.push_async_callback(database.client.close)
        valkey = open_valkey(settings.valkey_url)
        stack.push_async_callback(valkey.aclose)
        queue = TaskQueue(settings.valkey_url)
        stack.callback(queue.close)
        await migrate(database, COLLECTIONS)
        services = _compose(settings, clock, programme, database, valkey, queue)
        stack.push_async_callback(services.channels.close)
        stack.push_async_callback(services.nudges.flush)
        await services.rules.publish(shipped_profile(programme.profile))
        yield services


def _compose(
    settings: Settings, clock: Clock, programme: Programme, database: Database, valkey: Redis, queue: TaskQueue
) -> Services:
    transactions = Transactions(database)
    channels = Channels(valkey)
    nudges = Nudges(valkey, queue, SETTLE_TASK, lanes=settings.settle_lanes)
    identity = Identity(IdentityStore(database), clock, load_lookup_key(settings.keys_dir / "lookup.key"))
    rules = Rules(RuleStore(database), transactions, programme.profile)
    ledger = Ledger(database, transactions, clock)
    store = ActionStore(database)

    actions = Actions(
        store=store,
        identity=identity,
        rule_service=rules,
        keys=IdempotencyKeys(database),
        clock=clock,
        window=Window(programme.intake_window),
        wake=nudges.nudge,
    )

    async def tell_phones(item: Item) -> None:
        await channels.publish_many([(citizen_channel(event["citizen"]), event) for event in item.payload])

    relay = Relay(database, clock, {SETTLED_TOPIC: tell_phones})
    return Services(
        settings=settings,
        clock=clock,
        programme=programme,
        database=database,
        valkey=valkey,
        channels=channels,
        nudges=nudges,
        tokens=Tokens(
            load_signing_key(settings.keys_dir / "tokens.pem"), issuer=f"tanhui:{programme.code}", clock=clock
        ),
        identity=identity,
        rules=rules,
        ledger=ledger,
        actions=actions,
        importing=Importing(store=store, actions=actions, identity=identity, clock=clock),
        settling=Settling(
            store=store,
            rule_service=rules,
            ledger=ledger,
            transactions=transactions,
            relay=relay,
            leases=Leases(valkey),
            nudges=nudges,
            clock=clock,
            zone=programme.zone,
            batch_size=settings.conversion_batch,
        ),
        relay=relay,
    )
