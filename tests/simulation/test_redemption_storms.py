"""Many at once on little stock, one budget, one citizen: exact counts, nothing oversold, books that add up."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.errors import BusyError, TransientError
from backend.rewards.offers.model import CitizenLimits, Stock, StockKind
from backend.rewards.stock.model import Pot, PotId, stock_pot
from backend.rewards.stock.service import HOLD_FOR, Pots
from backend.rewards.stock.store import PotStore
from backend.rewards.vouchers.codes import secret_of, show
from backend.rewards.vouchers.model import Voucher, VoucherStatus
from tests import factories
from tests.counters import KEY as SERVER_KEY
from tests.counters import Street, answer, cashier, contract, merchant, offer
from tests.simulation.chance import seeded
from tests.simulation.redemption_real import findings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from backend.kernel.clock import ManualClock
    from backend.rewards.stock.model import Reservation, Want
    from backend.runtime import Services

PROCESSES, BUYERS, OWNERS, UNITS = 3, 300, 60, 40
SOLD = stock_pot("coffee")
KEY = "storm-0001"


def streets(services: Services, *, budget_fen: int | None = None, **terms: Any) -> list[Street]:
    """Several processes that sell the same coffee."""
    now = services.clock.now()
    opened = [Street(services) for _ in range(PROCESSES)]
    for street in opened:
        street.add(merchant(now, contracts=(contract(now, budget_fen=budget_fen),)), offer(now, **terms))
    return opened


async def insist(call: Any) -> Any:
    """The answer to a call that is made again as long as it hears only that there is a crowd."""
    heard: Any = BusyError()
    while isinstance(heard, TransientError):
        heard = await answer(call())
    return heard


def codes(answers: list[Any]) -> Counter[str]:
    """How often each refusal was given; ``DONE`` for what was not refused."""
    return Counter(getattr(one, "code", "DONE") for one in answers)


async def pot_of(street: Street, name: PotId = SOLD) -> Pot:
    """The pot as it stands."""
    return (await street.pots.find([name]))[name]


@asynccontextmanager
async def sweeping(street: Street, clock: ManualClock, *, midway: asyncio.Event) -> AsyncIterator[None]:
    """The sweeper runs without a pause; once ``midway`` is set, what is reserved just then is taken for orphaned."""
    # Not cancelled: Python 3.11's wait_for, in the driver, may swallow that.
    is_over = asyncio.Event()

    async def sweep() -> None:
        is_late = False
        while not is_over.is_set():
            await street.pots.recover()
            if midway.is_set() and not is_late:
                is_late = True
                clock.advance(HOLD_FOR)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(sweep())
    try:
        yield
    finally:
        is_over.set()
        await task


async def test_the_last_units_while_others_cancel_and_are_served(services: Services, clock: ManualClock) -> None:
    """Units come back in the middle of the storm; everybody comes by chance through any process."""
    chance, doors = seeded(), streets(services, stock=Stock(StockKind.TOTAL, OWNERS + UNITS))
    owners, buyers = [f"o{number}" for number in range(OWNERS)], [f"b{number}" for number in range(BUYERS)]
    await doors[0].settle_in(*owners, *buyers)
    had = [await doors[0].redeem(name) for name in owners]
    cancelling, served = had[: OWNERS // 2], had[OWNERS // 2 :]
    midway, bought = asyncio.Event(), 0

    async def buy(name: str) -> Any:
        nonlocal bought
        made = await insist(lambda: chance.choice(doors).vouchers.redeem(factories.citizen(name), offer_id, 1, key=KEY))
        bought += isinstance(made, Voucher)
        if bought > UNITS // 2:
            midway.set()
        return made

    def cancel(voucher: Voucher) -> Any:
        who = factories.citizen(voucher.citizen)
        return insist(lambda: chance.choice(doors).vouchers.cancel(who, voucher.id, key=KEY))

    def capture(voucher: Voucher, by: str) -> Any:
        given: Any = {"items": None, "shop": None, "key": f"{KEY}-{voucher.id}"}
        secret = secret_of(SERVER_KEY, voucher.id)

        def shown() -> str:
            return show(secret, voucher.number, clock.now()).token

        return insist(lambda: chance.choice(doors).counter.capture(cashier(by), shown(), **given))

    offer_id = had[0].offer
    work = [buy(name) for name in buyers]
    work += [cancel(voucher) for voucher in cancelling]
    work += [capture(voucher, by) for voucher in served for by in ("cai", "dora")]
    order = list(range(len(work)))
    chance.shuffle(order)
    async with sweeping(doors[0], clock, midway=midway):
        shuffled = await asyncio.gather(*(work[number] for number in order))
    by_number = dict(zip(order, shuffled, strict=True))
    answers = [by_number[number] for number in range(len(work))]

    sold, rest = codes(answers[:BUYERS]), answers[BUYERS:]
    assert codes(rest[: len(cancelling)]) == {"DONE": len(cancelling)}
    assert codes(rest[len(cancelling) :]) == {"DONE": len(served), "VOUCHER_STATUS": len(served)}
    # Those who came before something was cancelled heard the truth of that moment.
    assert set(sold) == {"DONE", "SOLD_OUT"}
    assert UNITS <= sold["DONE"] <= UNITS + len(cancelling)
    late = await asyncio.gather(*(doors[0].redeem(name, key="redeem-late") for name in buyers[: OWNERS + UNITS]))
    assert sold["DONE"] + codes(late)["DONE"] == UNITS + len(cancelling)
    assert (await pot_of(doors[0])).free == 0
    assert (await pot_of(doors[0])).pending == ()
    assert midway.is_set()
    assert await findings(services) == []


async def test_a_budget_that_all_draw_on_is_spent_to_the_last_voucher(services: Services, clock: ManualClock) -> None:
    """Each voucher is worth 21 fen; whoever gives one up makes room for another."""
    doors = streets(services, budget_fen=21 * 25 + 20)
    names = [f"c{number}" for number in range(120)]
    await doors[0].settle_in(*names)
    async with sweeping(doors[0], clock, midway=asyncio.Event()):
        made = await asyncio.gather(*(doors[n % PROCESSES].redeem(name) for n, name in enumerate(names)))
        assert codes(made) == {"DONE": 25, "BUDGET_SPENT": 95}
        given_up = [one for one in made if isinstance(one, Voucher)][:10]
        for voucher in given_up:
            await doors[1].vouchers.cancel(factories.citizen(voucher.citizen), voucher.id, key=KEY)
        again = await asyncio.gather(
            *(doors[n % PROCESSES].redeem(name, key="redeem-0002") for n, name in enumerate(names))
        )
    assert codes(again) == {"DONE": 10, "BUDGET_SPENT": 110}
    [pot] = (await doors[0].pots.find([one.pots[0].pot for one in given_up])).values()  # type: ignore[misc]
    assert (pot.free, pot.used, pot.pending) == (20, 21 * 25, ())
    assert await findings(services) == []


async def test_limits_hold_against_one_citizen_in_three_processes(services: Services, clock: ManualClock) -> None:
    doors = streets(services, limits=CitizenLimits(per_day=5, in_all=7), stock=Stock(StockKind.TOTAL, 100))
    await doors[0].settle_in("alice", points=5_000)

    async def ask(day: int) -> Counter[str]:
        return codes(
            await asyncio.gather(
                *(doors[n % PROCESSES].redeem("alice", key=f"storm-{day}-{n:04}") for n in range(20)),
            )
        )

    assert await ask(1) == {"DONE": 5, "LIMIT_REACHED": 15}
    clock.advance(timedelta(days=1))
    assert await ask(2) == {"DONE": 2, "LIMIT_REACHED": 18}
    assert (await pot_of(doors[0])).used == 7
    assert await findings(services) == []


class SlowPots(Pots):
    """Pots that take a while from setting units aside until the caller knows."""

    def __init__(self, services: Services) -> None:
        super().__init__(PotStore(services.database), services.clock)
        self.has_reserved, self.may_go_on = asyncio.Event(), asyncio.Event()
        self.reservations: list[Reservation] = []
        self.finished: list[str] = []

    async def reserve(self, reservation: str, wants: Mapping[PotId, Want]) -> Reservation:
        """Set units aside, say so, and wait."""
        reserved = await super().reserve(reservation, wants)
        self.reservations.append(reserved)
        self.has_reserved.set()
        await self.may_go_on.wait()
        return reserved

    async def finish(self, reservation: Reservation, used: Mapping[PotId, int]) -> None:
        """Note that it is finished."""
        self.finished.append(reservation.id)
        await super().finish(reservation, used)


@pytest.mark.parametrize("is_sold", [True, False], ids=["sold meanwhile", "still there"])
async def test_who_is_so_slow_that_the_units_are_gone_back_sells_none_twice(
    services: Services, clock: ManualClock, *, is_sold: bool
) -> None:
    """The sweeper takes the reservation for orphaned before its transaction begins; the proof then decides."""
    quick, slow, _ = streets(services, stock=Stock(StockKind.TOTAL, 1))
    await quick.settle_in("alice", "bob")
    slow.redeeming._pots = pots = SlowPots(services)
    redeeming = asyncio.create_task(slow.redeem("alice"))
    await pots.has_reserved.wait()
    clock.advance(HOLD_FOR)
    assert await quick.pots.recover() == 1
    assert (await pot_of(quick)).free == 1
    if is_sold:
        assert isinstance(await quick.redeem("bob"), Voucher)
    pots.may_go_on.set()
    made = await redeeming
    first, second = (one.id for one in pots.reservations)
    # The first was over, so that it could not be finished and all was asked anew.
    assert pots.finished == [second] != [first]
    assert codes([made]) == ({"SOLD_OUT": 1} if is_sold else {"DONE": 1})
    assert ((await pot_of(quick)).free, (await pot_of(quick)).pending) == (0, ())
    assert await findings(services) == []


async def test_a_reservation_that_is_used_stays_used_when_the_sweeper_finds_it(
    services: Services, clock: ManualClock
) -> None:
    """The process dies after the voucher is written and before the rest of the stock is given back."""

    class Dying(Pots):
        async def finish(self, reservation: Reservation, used: Mapping[PotId, int]) -> None:
            """Never comes to it."""

    quick, slow, _ = streets(services, stock=Stock(StockKind.TOTAL, 3))
    await quick.settle_in("alice", "bob", "poor", points=0)
    await quick.settle_in("alice", points=30)
    slow.redeeming._pots = Dying(PotStore(services.database), clock)
    made = await asyncio.gather(*(slow.redeem(name) for name in ("poor", "alice", "bob")))
    assert codes(made) == {"DONE": 1, "INSUFFICIENT_POINTS": 2}
    assert ((await pot_of(quick)).free, len((await pot_of(quick)).pending)) == (0, 1)
    assert await findings(services) == []
    # The workers are away for a month, while MongoDB forgets what is to be forgotten.
    clock.advance(timedelta(days=30))
    await services.database.raw["stock_uses"].delete_many({"expires_at": {"$lte": clock.now()}})
    assert await asyncio.gather(quick.pots.recover(), slow.pots.recover()) in ([1, 1], [1, 0], [0, 1])
    assert ((await pot_of(quick)).free, (await pot_of(quick)).used) == (2, 1)
    assert made[1].status is VoucherStatus.HELD
    assert await findings(services) == []
