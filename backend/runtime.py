"""Builds the services of one process, once: the same for API, workers, commands and tests."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from backend.actions.backtesting.service import Backtesting, Calls
from backend.actions.backtesting.store import COLLECTIONS as BACKTEST_COLLECTIONS
from backend.actions.backtesting.store import BacktestStore
from backend.actions.documents import COLLECTIONS as ACTION_COLLECTIONS
from backend.actions.importing import Importing
from backend.actions.restate_store import RESTATEMENTS
from backend.actions.restating import Restating
from backend.actions.review_store import REVIEW_LOG
from backend.actions.reviewing import Reviewing
from backend.actions.rules import Window
from backend.actions.service import Actions
from backend.actions.settling import SETTLED_TOPIC, Settling
from backend.actions.store import ActionStore
from backend.identity.adjusting import Adjusting
from backend.identity.families import Families
from backend.identity.rule_desk import RuleDesk
from backend.identity.service import Identity
from backend.identity.store import COLLECTIONS as IDENTITY_COLLECTIONS
from backend.identity.store import IdentityStore
from backend.identity.tokens import Tokens
from backend.kernel.clock import SystemClock
from backend.kernel.crypto import load_lookup_key, load_signing_key
from backend.ledger.audit.follow_store import COLLECTIONS as AUDIT_COLLECTIONS
from backend.ledger.documents import COLLECTIONS as LEDGER_COLLECTIONS
from backend.ledger.expiry import Expiry
from backend.ledger.provenance import Provenance
from backend.ledger.sealing.service import Sealing
from backend.ledger.sealing.store import COLLECTIONS as SEALING_COLLECTIONS
from backend.ledger.service import Ledger
from backend.market.opening import COLLECTIONS as MARKET_COLLECTIONS
from backend.market.opening import Ground, Market, open_market
from backend.market.pooling.returning import Returning
from backend.market.pooling.store import find_bound
from backend.mongo.client import open_database
from backend.mongo.idempotency import IDEMPOTENCY_KEYS, IdempotencyKeys
from backend.mongo.migrations import migrate
from backend.mongo.transactions import Transactions
from backend.outbox.relay import OUTBOX, Relay
from backend.process.errors import WrongClockError
from backend.programme.model import shipped_programme
from backend.rewards.opening import COLLECTIONS as REWARD_COLLECTIONS
from backend.rewards.opening import RewardKeys, Rewards, open_rewards
from backend.rewards.webhooks.events import WEBHOOK_TOPIC
from backend.rewards.webhooks.service import Webhooks
from backend.rules.drafts_store import COLLECTIONS as DRAFT_COLLECTIONS
from backend.rules.drafts_store import DraftReads
from backend.rules.lifecycle import Lifecycle, LifecyclePolicy
from backend.rules.profile import shipped_methodologies, shipped_profile
from backend.rules.service import Rules
from backend.rules.store import COLLECTIONS as RULE_COLLECTIONS
from backend.rules.store import RuleStore
from backend.settings import Environment
from backend.valkey.channels import Channels
from backend.valkey.client import open_valkey
from backend.valkey.leases import Leases
from backend.valkey.nudges import Nudges
from backend.valkey.task_queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from backend.kernel.clock import Clock
    from backend.kernel.ids import CitizenId
    from backend.mongo.client import Database
    from backend.outbox.relay import Item
    from backend.programme.model import Programme
    from backend.rewards.vouchers.model import VoucherId
    from backend.settings import Settings

LOG = structlog.get_logger(__name__)
COLLECTIONS = (
    IDEMPOTENCY_KEYS,
    OUTBOX,
    *LEDGER_COLLECTIONS,
    *SEALING_COLLECTIONS,
    *AUDIT_COLLECTIONS,
    *RULE_COLLECTIONS,
    *DRAFT_COLLECTIONS,
    *IDENTITY_COLLECTIONS,
    *ACTION_COLLECTIONS,
    REVIEW_LOG,
    RESTATEMENTS,
    *BACKTEST_COLLECTIONS,
    *REWARD_COLLECTIONS,
    *MARKET_COLLECTIONS,
)
SETTLE_TASK = "actions.settle"
MATCH_TASK = "market.match"
BACKTEST_TASK = "backtests.replay"
MAX_SKEW = timedelta(seconds=5)


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
    lifecycle: Lifecycle
    rule_desk: RuleDesk
    ledger: Ledger
    expiry: Expiry
    sealing: Sealing
    provenance: Provenance
    families: Families
    adjusting: Adjusting
    actions: Actions
    settling: Settling
    reviewing: Reviewing
    restating: Restating
    backtesting: Backtesting
    importing: Importing
    rewards: Rewards
    market: Market
    relay: Relay


def citizen_channel(citizen: str) -> str:
    """The channel on which a citizen's phones are told."""
    return f"citizen:{citizen}"


def voucher_channel(citizen: str) -> str:
    """The channel on which a citizen's phones are told that a voucher has changed."""
    return f"vouchers:{citizen}"


def backtest_channel(backtest: str) -> str:
    """The channel on which those who watch a back-test are told that it went on."""
    return f"backtest:{backtest}"


@asynccontextmanager
async def open_services(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Connect, bring the database to the declared state, publish the shipped rules, and close it all at the end.

    Raises:
        ValueError: a server URL is missing (whoever composes starts the embedded servers first).
        PresetError, ProfileError: the programme or its rule profile cannot be used.
        WrongClockError: the clocks of this machine and of MongoDB differ by more than five seconds.
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
        await _compare_clocks(database, clock)
        await migrate(database, COLLECTIONS)
        services = _compose(settings, clock, programme, database, valkey, queue)
        stack.push_async_callback(services.channels.close)
        stack.push_async_callback(services.nudges.flush)
        stack.push_async_callback(services.rewards.flush)
        stack.push_async_callback(services.market.exchange.flush)
        await services.rules.publish(shipped_profile(programme.profile), programme.limits)
        yield services


def _compose(
    settings: Settings, clock: Clock, programme: Programme, database: Database, valkey: Redis, queue: TaskQueue
) -> Services:
    transactions = Transactions(database)
    channels = Channels(valkey)
    nudges = Nudges(valkey, queue, SETTLE_TASK, lanes=settings.settle_lanes)
    matching = Nudges(valkey, queue, MATCH_TASK, lanes=settings.settle_lanes)
    lookup_key = load_lookup_key(settings.keys_dir / "lookup.key")
    identity = Identity(IdentityStore(database), clock, lookup_key)
    rules = Rules(RuleStore(database), transactions, clock, programme.profile)
    leases = Leases(valkey)
    ledger = Ledger(database, transactions, clock, programme.points_policy)
    webhooks = _webhooks(settings, clock, database)
    relay = _relay(database, clock, channels, webhooks)
    core = _Core(settings, clock, programme, database, identity, rules, ledger, leases, nudges, relay, lookup_key)
    restating = _restating(core)
    lifecycle = _lifecycle(database, rules, clock, programme, restating)
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
    return Services(
        settings=settings,
        clock=clock,
        programme=programme,
        database=database,
        valkey=valkey,
        channels=channels,
        nudges=nudges,
        tokens=_tokens(settings, clock, programme),
        identity=identity,
        rules=rules,
        lifecycle=lifecycle,
        rule_desk=RuleDesk(lifecycle),
        ledger=ledger,
        expiry=Expiry(database, transactions, ledger, leases, clock),
        sealing=_sealing(settings, clock, programme, database),
        provenance=Provenance(database),
        families=_families(database, identity, ledger, clock, programme, lookup_key),
        adjusting=Adjusting(identity, ledger, lookup_key),
        actions=actions,
        reviewing=_reviewing(core),
        restating=restating,
        importing=Importing(store=store, actions=actions, identity=identity, clock=clock),
        settling=_settling(core, store),
        backtesting=_backtesting(core, lifecycle, channels, queue),
        rewards=_rewards(core, channels, webhooks),
        market=_market(core, channels, matching),
        relay=relay,
    )


@dataclass(frozen=True)
class _Core:
    """What several services are made of."""

    settings: Settings
    clock: Clock
    programme: Programme
    database: Database
    identity: Identity
    rules: Rules
    ledger: Ledger
    leases: Leases
    nudges: Nudges
    relay: Relay
    lookup_key: bytes


def _settling(core: _Core, store: ActionStore) -> Settling:
    return Settling(
        store=store,
        identity=core.identity,
        rule_service=core.rules,
        ledger=core.ledger,
        transactions=Transactions(core.database),
        relay=core.relay,
        leases=core.leases,
        nudges=core.nudges,
        clock=core.clock,
        zone=core.programme.zone,
        batch_size=core.settings.conversion_batch,
    )


def _reviewing(core: _Core) -> Reviewing:
    return Reviewing(
        database=core.database,
        transactions=Transactions(core.database),
        rule_service=core.rules,
        ledger=core.ledger,
        relay=core.relay,
        clock=core.clock,
        zone=core.programme.zone,
        lookup_key=core.lookup_key,
        wake=core.nudges.nudge,
        take_out=Returning(ledger=core.ledger, threshold_g=core.programme.market.aggregation_threshold_g).take_out,
    )


def _restating(core: _Core) -> Restating:
    return Restating(
        database=core.database,
        transactions=Transactions(core.database),
        rule_service=core.rules,
        ledger=core.ledger,
        leases=core.leases,
        clock=core.clock,
        zone=core.programme.zone,
        find_bound=find_bound,
    )


def _backtesting(core: _Core, lifecycle: Lifecycle, channels: Channels, queue: TaskQueue) -> Backtesting:
    async def wake(parts: Sequence[int]) -> None:
        try:
            await queue.send_many(BACKTEST_TASK, [[part] for part in parts])
        except OperationalError as error:
            LOG.warning("back-test not sent; the sweeper will find it", error=str(error))

    async def tell(backtest: str) -> None:
        with suppress(RedisError):  # who watches looks by themselves after a while
            await channels.publish_many([(backtest_channel(backtest), {"backtest": backtest})])

    return Backtesting(
        store=BacktestStore(core.database),
        transactions=Transactions(core.database),
        rule_service=core.rules,
        lifecycle=lifecycle,
        identity=core.identity,
        clock=core.clock,
        zone=core.programme.zone,
        lookup_key=core.lookup_key,
        calls=Calls(wake, tell),
    )


def _tokens(settings: Settings, clock: Clock, programme: Programme) -> Tokens:
    key = load_signing_key(settings.keys_dir / "tokens.pem")
    return Tokens(key, issuer=f"tanhui:{programme.code}", clock=clock)


def _families(
    database: Database, identity: Identity, ledger: Ledger, clock: Clock, programme: Programme, lookup_key: bytes
) -> Families:
    return Families(
        database=database,
        transactions=Transactions(database),
        identity=identity,
        ledger=ledger,
        clock=clock,
        zone=programme.zone,
        lookup_key=lookup_key,
        transferable=programme.points.transferable,
    )


def _lifecycle(database: Database, rules: Rules, clock: Clock, programme: Programme, restating: Restating) -> Lifecycle:
    return Lifecycle(
        reads=DraftReads(database),
        transactions=Transactions(database),
        rules=rules,
        clock=clock,
        policy=LifecyclePolicy(timedelta(days=programme.rules.past_days), programme.rules.backtest_needed),
        methodologies=shipped_methodologies(),
        count_affected=restating.count_affected,
    )


async def _compare_clocks(database: Database, clock: Clock) -> None:
    """Refuse to start with a clock that is wrong: whatever it stamps would hold up its owners until that time comes."""
    ahead = clock.now() - await database.server_time()
    if isinstance(clock, SystemClock) and abs(ahead) > MAX_SKEW:
        raise WrongClockError("MongoDB", abs(ahead) // timedelta(seconds=1))


def _sealing(settings: Settings, clock: Clock, programme: Programme, database: Database) -> Sealing:
    return Sealing(
        database,
        Transactions(database),
        clock,
        programme=programme.code,
        zone=programme.zone,
        load_key=lambda: load_signing_key(settings.keys_dir / "sealing.pem"),
    )


def _relay(database: Database, clock: Clock, channels: Channels, webhooks: Webhooks) -> Relay:
    async def tell_phones(item: Item) -> None:
        await channels.publish_many([(citizen_channel(event["citizen"]), event) for event in item.payload])

    return Relay(database, clock, {SETTLED_TOPIC: tell_phones, WEBHOOK_TOPIC: webhooks.fan_out})


def _webhooks(settings: Settings, clock: Clock, database: Database) -> Webhooks:
    return Webhooks(
        database=database,
        transactions=Transactions(database),
        clock=clock,
        key=load_lookup_key(settings.keys_dir / "webhooks.key"),
        allow_local=settings.env is Environment.DEV,
    )


def _rewards(core: _Core, channels: Channels, webhooks: Webhooks) -> Rewards:
    async def tell(citizen: CitizenId, voucher: VoucherId) -> None:
        await channels.publish_many([(voucher_channel(citizen), {"voucher": voucher})])

    keys = core.settings.keys_dir
    return open_rewards(
        database=core.database,
        transactions=Transactions(core.database),
        clock=core.clock,
        zone=core.programme.zone,
        districts=core.programme.districts,
        identity=core.identity,
        ledger=core.ledger,
        relay=core.relay,
        webhooks=webhooks,
        keys=RewardKeys(
            vouchers=load_lookup_key(keys / "vouchers.key"),
            codes=load_lookup_key(keys / "offer-codes.key"),
            lookup=core.lookup_key,
        ),
        tell=tell,
    )


def _market(core: _Core, channels: Channels, matching: Nudges) -> Market:
    return open_market(
        Ground(
            settings=core.programme.market,
            programme=core.programme.code,
            zone=core.programme.zone,
            database=core.database,
            transactions=Transactions(core.database),
            clock=core.clock,
            identity=core.identity,
            rules=core.rules,
            ledger=core.ledger,
            leases=core.leases,
            channels=channels,
            lookup_key=core.lookup_key,
            nudges=matching,
        )
    )
