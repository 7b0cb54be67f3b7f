"""A month of captures settled: closed, approved and paid for all merchants, to the fen, and again through kills.

What each merchant is owed is kept aside while the captures are made, and computed from that alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import signal
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import TYPE_CHECKING

from backend.cli.console import quiet_logs, with_services
from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import BusyError, Text
from backend.kernel.ids import CitizenId
from backend.kernel.units import Ratio
from backend.ledger.model import (
    CNY,
    MINTS,
    POINTS,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    merchant_owner,
)
from backend.mongo.transactions import Transactions
from backend.rewards.merchants.documents import MERCHANTS, merchant_to_document
from backend.rewards.merchants.model import Contract, Cycle, Merchant, MerchantId, MerchantStage
from backend.rewards.offers.model import Bearer, OfferId, OfferKind
from backend.rewards.settlement.documents import STATEMENTS
from backend.rewards.settlement.model import StatementStage
from backend.rewards.vouchers.documents import VOUCHERS, voucher_to_document
from backend.rewards.vouchers.model import Capture, Promise, Refund, Voucher, VoucherId, VoucherStatus
from loadtests.report import Figure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from backend.ledger.model import AccountId
    from backend.rewards.settlement.model import Statement
    from backend.runtime import Services
    from backend.settings import Settings

APPROVER, PAYER = (
    Principal(PrincipalKind.STAFF, name, frozenset({StaffRole.ADMIN})) for name in ("bench-approver", "bench-payer")
)
GOAL_S = 60
BATCH = 500
CITIZENS = 1_000
RICH = 10**9
RATES = (0, 200, 333)
REFUND_EVERY = 100
AT_ONCE = 8
PAGE = 200
# Kills while statements are made, approved and paid: the stages that count as done.
_STAGES = (StatementStage.READY, StatementStage.APPROVED, StatementStage.PAID)
CUTS = (_STAGES, _STAGES[1:], _STAGES[2:])


@dataclass
class Owed:
    """What a merchant's statement must say, added up as it happens."""

    captures: int = 0
    refunds: int = 0
    points: int = 0
    fen: Counter[int] = field(default_factory=Counter)

    def expected(self) -> tuple[int, int, int, int, int]:
        """Captures, refunds, points, gross and payable fen."""
        gross = sum(self.fen.values())
        kept = sum(fen * bps // 10_000 if fen >= 0 else -(-fen * bps // 10_000) for bps, fen in self.fen.items())
        return self.captures, self.refunds, self.points, gross, max(0, gross - kept)


async def measure_settlement(services: Services, *, merchants: int = 500, captures: int = 100_000) -> dict[str, Figure]:
    """Last month's captures settled in one go, and as many of other merchants by processes that are killed at it."""
    figures: dict[str, Figure] = {}
    begun = time.perf_counter()
    owed = await _sell(services, "plain", merchants, captures)
    made_s = time.perf_counter() - begun
    took_s = await _settle_all(services)
    figures["settlement_captures_made"] = Figure(round(captures / made_s), "captures/s, by groups of 500")
    figures["settlement_month"] = Figure(
        round(took_s, 1), f"s, {captures:,} captures of {merchants:,} merchants", GOAL_S, is_less_better=True
    )
    figures["settlement_to_the_fen"] = await _right(services, owed)

    owed = await _sell(services, "crash", merchants, captures)
    begun = time.perf_counter()
    cuts = [await _kill_amid(services, merchants, done) for done in CUTS]
    await _settle_all(services)
    crashed_s = time.perf_counter() - begun
    figures["settlement_killed_amid"] = Figure(sum(cuts), "of 3 kills: some made, approved, paid, not all", len(CUTS))
    figures["settlement_through_crash"] = Figure(
        round(crashed_s, 1),
        "s, killed three times and run again, waits for the killed included",
        GOAL_S,
        is_less_better=True,
    )
    figures["settlement_through_crash_to_the_fen"] = await _right(services, owed)
    return figures


async def _settle_all(services: Services) -> float:
    """Close, approve and pay everything; the seconds it took."""
    begun = time.perf_counter()
    settlement = services.rewards.settlement
    while True:
        with suppress(BusyError):
            await settlement.close_due()
            break

    async def approve(one: Statement) -> None:
        await settlement.approve(APPROVER, one.id, key=f"approve-{one.id}")

    async def pay(one: Statement) -> None:
        await settlement.pay(PAYER, one.id, "bench", key=f"pay-{one.id}")

    await _all(services, StatementStage.READY, approve)
    await _all(services, StatementStage.APPROVED, pay)
    return time.perf_counter() - begun


async def _all(services: Services, stage: StatementStage, step: Callable[[Statement], Awaitable[None]]) -> None:
    """Take that step with every statement in that stage, some at once."""
    settlement, places = services.rewards.settlement, asyncio.Semaphore(AT_ONCE)

    async def take(one: Statement) -> None:
        # Busy until the server gives up what a killed process had begun: it is found again.
        async with places:
            with suppress(BusyError):
                await step(one)

    while found := await settlement.list_statements(APPROVER, stage=stage, limit=PAGE):
        await asyncio.gather(*map(take, found))


async def _kill_amid(services: Services, merchants: int, done: Sequence[StatementStage]) -> bool:
    """Do the same in a process, killed once a quarter of the statements have come so far; whether not all had."""
    query = {"merchant": {"$regex": "^crash-"}, "stage": {"$in": list(done)}}
    process = get_context("spawn").Process(target=_settle_in, args=(services.settings,))
    process.start()
    is_early = True
    while is_early and process.is_alive():
        await asyncio.sleep(0.01)
        is_early = await services.database.count(STATEMENTS.name, query) < merchants / 4
    process.kill()
    process.join()
    count = await services.database.count(STATEMENTS.name, query)
    print(f"killed at {count} of {merchants} statements {done[0]}, exit code {process.exitcode}")
    return process.exitcode == -signal.SIGKILL and 0 < count < merchants


def _settle_in(settings: Settings) -> None:
    """A process that settles everything."""
    quiet_logs()
    with_services(settings, _settle_all)


async def _statements(services: Services, name: str) -> list[Statement]:
    settlement = services.rewards.settlement
    found: list[Statement] = []
    place = None
    while page := await settlement.list_statements(APPROVER, limit=PAGE, older=place):
        found += [one for one in page if one.merchant.startswith(name)]
        place = (page[-1].made_at, page[-1].id)
    return found


async def _right(services: Services, owed: dict[MerchantId, Owed]) -> Figure:
    """How many merchants have exactly one statement, paid, that says what was kept aside, and accounts at zero."""
    by_merchant: defaultdict[MerchantId, list[Statement]] = defaultdict(list)
    for one in await _statements(services, next(iter(owed)).partition("-")[0]):
        by_merchant[one.merchant].append(one)
    right = 0
    for merchant, aside in owed.items():
        told = [
            (
                one.totals.captures.count,
                one.totals.refunds.count,
                one.totals.points,
                one.totals.gross_fen,
                one.payable_fen,
            )
            for one in by_merchant[merchant]
            if one.stage is StatementStage.PAID and one.difference.is_nothing
        ]
        left = [await services.ledger.merchant_balance(merchant, asset, until=None) for asset in (POINTS, CNY)]
        right += told == [aside.expected()] and left == [0, 0]
    return Figure(right, f"of {len(owed):,} merchants", len(owed))


def _months(now: datetime, services: Services) -> tuple[datetime, datetime]:
    """Last month, local time."""
    zone = services.programme.zone
    until = now.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (until - timedelta(days=1)).replace(day=1).astimezone(UTC), until.astimezone(UTC)


async def _sell(services: Services, name: str, merchants: int, captures: int) -> dict[MerchantId, Owed]:
    """Make last month's captures at so many merchants, in book and vouchers; what each is owed."""
    since, until = _months(services.clock.now(), services)
    ids = [MerchantId(f"{name}-{number:04}") for number in range(merchants)]
    documents = [merchant_to_document(_merchant(merchant, since)) for merchant in ids]
    await services.database.insert_many(MERCHANTS.name, documents)
    buyers = [CitizenId(f"{name}-buyer-{number:04}") for number in range(CITIZENS)]
    await _enrich(services, buyers, since)
    chance = random.Random(name)
    owed = {merchant: Owed() for merchant in ids}
    groups = -(-captures // BATCH)
    step = (until - since - timedelta(hours=2)) / groups
    for group in range(groups):
        count = min(BATCH, captures - group * BATCH)
        at = (since + timedelta(hours=1) + step * group).replace(microsecond=0)
        vouchers = []
        for number in range(group * BATCH, group * BATCH + count):
            merchant = ids[number % merchants]
            vouchers.append(_voucher(f"{name}-{number:07}", merchant, chance.choice(buyers), at, chance))
        await _post(services, [_taken(voucher) for voucher in vouchers], at)
        given_back = [_refunded(voucher, at) for voucher in vouchers[::REFUND_EVERY]]
        await _post(services, [_given(voucher) for voucher in given_back], at)
        changed = {voucher.id: voucher for voucher in given_back}
        final = [changed.get(voucher.id, voucher) for voucher in vouchers]
        await services.database.insert_many(VOUCHERS.name, [voucher_to_document(voucher) for voucher in final])
        for voucher in final:
            _note(owed[voucher.merchant], voucher)
    return owed


def _note(owed: Owed, voucher: Voucher) -> None:
    for one, sign in [(capture, 1) for capture in voucher.captures] + [(refund, -1) for refund in voucher.refunds]:
        owed.points += sign * one.points
        owed.fen[voucher.promise.commission_bps] += sign * one.fen
    owed.captures += len(voucher.captures)
    owed.refunds += len(voucher.refunds)


async def _enrich(services: Services, buyers: Sequence[CitizenId], at: datetime) -> None:
    mint = MINTS[POINTS]
    for start in range(0, len(buyers), BATCH):
        earnings = [
            Transaction(
                key=f"bench-earn-{buyer}",
                kind=TransactionKind.EARN,
                postings=(_moving(mint, account_of(citizen_owner(buyer), POINTS), RICH),),
            )
            for buyer in buyers[start : start + BATCH]
        ]
        await _post(services, earnings, at)


async def _post(services: Services, transactions: Sequence[Transaction], at: datetime) -> None:
    if transactions:
        await Transactions(services.database).run(
            lambda tx: services.ledger.post_within(tx, transactions, at=at), budget_s=30
        )


def _moving(payer: AccountId, payee: AccountId, points: int) -> Posting:
    return Posting(from_account=payer, to_account=payee, asset=POINTS, amount=points)


def _cause(voucher: Voucher, fen: int) -> dict[str, str]:
    return {
        "merchant": voucher.merchant,
        "voucher": voucher.id,
        "offer": voucher.offer,
        "fen": str(fen),
        "commission_bps": str(voucher.promise.commission_bps),
    }


def _taken(voucher: Voucher) -> Transaction:
    [capture] = voucher.captures
    buyer = account_of(citizen_owner(voucher.citizen), POINTS)
    shop = account_of(merchant_owner(voucher.merchant), POINTS)
    return Transaction(
        key=f"bench-capture-{voucher.id}",
        kind=TransactionKind.TRANSFER,
        postings=(_moving(buyer, shop, capture.points),),
        cause=_cause(voucher, capture.fen),
    )


def _given(voucher: Voucher) -> Transaction:
    [refund] = voucher.refunds
    buyer = account_of(citizen_owner(voucher.citizen), POINTS)
    shop = account_of(merchant_owner(voucher.merchant), POINTS)
    return Transaction(
        key=f"bench-refund-{voucher.id}",
        kind=TransactionKind.REVERSE,
        postings=(_moving(shop, buyer, refund.points),),
        cause=_cause(voucher, -refund.fen),
        corrects=refund.of,
    )


def _merchant(merchant: MerchantId, since: datetime) -> Merchant:
    contract = Contract(
        number=1, rate=Ratio(7, 10), commission_bps=200, cycle=Cycle.MONTH, budget_fen=None, valid_from=since
    )
    return Merchant(
        id=merchant,
        name=Text("基准商户", "Bench merchant"),
        legal_name="基准",
        credit_code=merchant,
        contact_name="-",
        contact_phone="-",
        stage=MerchantStage.APPROVED,
        reason=None,
        contracts=(contract,),
        shops=(),
        registered_at=since,
        registered_by="staff:bench",
        version=1,
    )


def _voucher(name: str, merchant: MerchantId, buyer: CitizenId, at: datetime, chance: random.Random) -> Voucher:
    points, bps = chance.randint(1, 5_000), chance.choice(RATES)
    rate, title = Ratio(7, 10), Text("一杯茶", "A cup of tea")
    taken = Transaction(key=f"bench-capture-{name}", kind=TransactionKind.TRANSFER)
    capture = Capture(
        transaction=taken.id, at=at, items=1, points=points, fen=rate.floor_times(points), shop=None, member=None
    )
    promise = Promise(
        kind=OfferKind.VOUCHER,
        title=title,
        handover=title,
        cash_fen=0,
        refund_days=7,
        bearer=Bearer.PROGRAMME,
        rate=rate,
        commission_bps=bps,
        shops=(),
        offer_revision=1,
    )
    return Voucher(
        id=VoucherId(name),
        citizen=buyer,
        offer=OfferId("bench"),
        merchant=merchant,
        promise=promise,
        number=name,
        units=1,
        items=1,
        points=points,
        hold=taken.id,
        status=VoucherStatus.CAPTURED,
        created_at=at,
        day=at.date(),
        expires_at=at + timedelta(days=1),
        captures=(capture,),
        refunds=(),
        dispute=None,
        pots=(),
        last_step=0,
        payload="",
        version=1,
    )


def _refunded(voucher: Voucher, at: datetime) -> Voucher:
    """The voucher with half of its points given back."""
    [capture] = voucher.captures
    points = (capture.points + 1) // 2
    less = capture.fen - voucher.promise.rate.floor_times(capture.points - points)
    given = Transaction(key=f"bench-refund-{voucher.id}", kind=TransactionKind.REVERSE)
    refund = Refund(
        transaction=given.id, of=capture.transaction, at=at, points=points, fen=less, by="bench", reason="bench"
    )
    return dataclasses.replace(voucher, refunds=(refund,))
