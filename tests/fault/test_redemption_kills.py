"""A process that dies at any instant of a redemption, a capture, a cancellation, a refund, an ending: one effect.

The caller is cancelled the n-th time that it waits, for every n there is. Then the sweepers do what they do within a
minute, and the same request is made again with the same key through another process.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from backend.kernel.errors import UnavailableError
from backend.kernel.grouping import Groups
from backend.ledger.model import POINTS
from backend.rewards.offers.model import OfferId, Stock, StockKind
from backend.rewards.stock.model import Pot, stock_pot
from backend.rewards.stock.service import HOLD_FOR, Pots
from backend.rewards.stock.store import PotStore
from backend.rewards.vouchers.model import VoucherStatus
from tests import factories
from tests.counters import Street, answer, cashier, contract, merchant, offer
from tests.simulation.redemption_real import findings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from datetime import datetime

    from backend.kernel.clock import ManualClock
    from backend.mongo.client import Database
    from backend.rewards.stock.model import PotId, Reserved
    from backend.rewards.vouchers.model import Voucher
    from backend.runtime import Services

Changed = TypeVar("Changed")
PRICE, FEN, UNITS, GIFT = 30, 21, 2_000, 50


class Mortal:
    """An awaitable that is cancelled the ``at``-th time it waits; ``waits`` counts them."""

    def __init__(self, call: Coroutine[Any, Any, Any], at: int) -> None:
        self._call = call
        self._at = at
        self.waits = 0

    def __await__(self) -> Generator[Any, None, Any]:
        """Let the call go on, until its time has come."""
        steps, raised = self._call.__await__(), None
        while True:
            try:
                waiting = steps.throw(raised) if raised else steps.send(None)
            except StopIteration as done:
                return done.value
            raised = None
            self.waits += 1
            if self.waits == self._at:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield waiting
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the call's
                raised = error


class Scene:
    """One citizen after the other does the same thing through a mortal process; a healthy one stands beside it."""

    def __init__(self, services: Services, clock: ManualClock) -> None:
        now = services.clock.now()
        self.services, self.clock = services, clock
        self.healthy, self.doomed = Street(services), Street(services)
        for street in (self.healthy, self.doomed):
            street.add(
                merchant(now, contracts=(contract(now, budget_fen=FEN * UNITS),)),
                offer(now, stock=Stock(StockKind.TOTAL, UNITS), valid_to=now + timedelta(days=9_000)),
            )
        self.used, self.deaths = 0, 0
        self.last: Mortal

    async def play(self, operation: str, at: int) -> bool:
        """Whether so many instants there were; whatever became of the process, all is as if it had lived."""
        name = f"{operation}-{at}"
        await self.healthy.settle_in(name, points=GIFT)
        voucher = None if operation == "redeem" else await self.healthy.redeem(name)
        code = await self.healthy.shown(voucher.id) if voucher else ""
        if operation == "refund":
            await self.capture(self.healthy, code, f"capture-first-{name}")
        if operation == "end":
            self.clock.current = voucher.expires_at
        mortal = self.mortal(operation, name, voucher, code, at)
        self.deaths += isinstance(await outcome_of(mortal), asyncio.CancelledError)
        self.clock.advance(HOLD_FOR + timedelta(seconds=20))
        await self.healthy.pots.recover()
        await self.healthy.ending.end_due()
        voucher = await self.again(operation, name, voucher, code)
        await self.check(operation, name, voucher)
        return self.last.waits >= at

    def mortal(self, operation: str, name: str, voucher: Any, code: str, at: int) -> Mortal:
        """The operation, to be cut off."""
        street, who = self.doomed, factories.citizen(name)
        calls = {
            "cancel": lambda: street.vouchers.cancel(who, voucher.id, key="cancel-0001"),
            "capture": lambda: self.capture(street, code, f"capture-0001-{name}"),
            "refund": lambda: street.refunding.refund(cashier(), voucher.id, None, "洒了", key=f"refund-0001-{name}"),
            "end": street.ending.end_due,
        }
        if operation in calls:
            self.last = Mortal(calls[operation](), at)
            return self.last
        redeeming = street.redeeming

        async def commit(orders: Any) -> Any:
            self.last = Mortal(redeeming._redeem_group(orders), at)
            return await self.last

        redeeming._groups = Groups(commit, limit=128, name="mortal redemptions")
        return Mortal(redeeming.redeem(who, OfferId("coffee"), 1, key="redeem-0001"), 0)

    @staticmethod
    def capture(street: Street, code: str, key: str) -> Coroutine[Any, Any, Voucher]:
        """The capture of all that the code is for."""
        return street.counter.capture(cashier(), code, items=None, shop=None, key=key)

    async def again(self, operation: str, name: str, voucher: Any, code: str) -> Voucher:
        """The same request once more, by the same key, through the other process."""
        street, who = self.healthy, factories.citizen(name)
        made: Any
        match operation:
            case "redeem":
                made = await street.redeem(name)
            case "cancel":
                made = await street.vouchers.cancel(who, voucher.id, key="cancel-0001")
            case "refund":
                made = await street.refunding.refund(cashier(), voucher.id, None, "洒了", key=f"refund-0001-{name}")
            case "capture":
                made = await answer(self.capture(street, code, f"capture-0001-{name}"))
                if getattr(made, "code", None) == "CODE_EXPIRED":  # it was not captured: the phone shows another code
                    made = await self.capture(street, await street.shown(voucher.id), f"capture-0002-{name}")
            case _:
                made = (await street.vouchers.find([voucher.id]))[voucher.id]
        found: Voucher = made
        return found

    async def check(self, operation: str, name: str, voucher: Voucher) -> None:
        """One effect, all of it."""
        status, available, held, units = {
            "redeem": (VoucherStatus.HELD, GIFT - PRICE, PRICE, 1),
            "capture": (VoucherStatus.CAPTURED, GIFT - PRICE, 0, 1),
            "cancel": (VoucherStatus.CANCELLED, GIFT, 0, 0),
            "refund": (VoucherStatus.REFUNDED, GIFT, 0, 1),
            "end": (VoucherStatus.EXPIRED, GIFT, 0, 0),
        }[operation]
        self.used += units
        page = await self.services.ledger.get_page(factories.owner(name))
        assert voucher.status is status
        assert (page.available(POINTS, self.clock.now()), page.held(POINTS)) == (available, held)
        stock = await self.pot()
        assert (stock.used, stock.free, stock.pending) == (self.used, UNITS - self.used, ())
        assert (
            len(
                await self.healthy.vouchers.list_vouchers(voucher.citizen, limit=9, older=None, newer=None, newest=True)
            )
            == 1
        )
        moved = {"capture": voucher.captures, "refund": voucher.refunds}.get(operation)
        assert moved is None or [(one.points, one.fen) for one in moved] == [(PRICE, FEN)]

    async def pot(self) -> Pot:
        """The stock that all draw on."""
        return (await self.healthy.pots.find([stock_pot("coffee")]))[stock_pot("coffee")]


async def outcome_of(mortal: Mortal) -> Any:
    """What became of the call, made in a task of its own."""

    async def live() -> Any:
        return await mortal

    [outcome] = await asyncio.gather(asyncio.create_task(live()), return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError) or not isinstance(outcome, BaseException), outcome
    return outcome


class AbsentPotStore(PotStore):
    """Pots of which one change, the ``at``-th, is never answered: it is not made, or made and nobody knows."""

    def __init__(self, database: Database, at: int, *, is_made: bool) -> None:
        super().__init__(database)
        self._at = at
        self._is_made = is_made
        self._running = 0
        self.changes = 0
        self.is_idle = asyncio.Event()

    async def _perhaps(self, change: Coroutine[Any, Any, Changed]) -> Changed:
        self.changes += 1
        is_answered = self.changes != self._at
        self._running += 1
        self.is_idle.clear()
        try:
            if is_answered or self._is_made:
                made = await change
        finally:
            change.close()
            self._running -= 1
            if not self._running:
                self.is_idle.set()
        if not is_answered:
            raise UnavailableError
        return made

    async def take(
        self, reservation: str, pot: PotId, units: int, until: datetime, *, total: int | None = None
    ) -> Reserved | None:
        """Set units aside, perhaps."""
        return await self._perhaps(super().take(reservation, pot, units, until, total=total))

    async def close(self, reservation: str, pot: PotId, unused: int) -> None:
        """End a reservation, perhaps."""
        await self._perhaps(super().close(reservation, pot, unused))


@pytest.mark.parametrize("is_made", [True, False], ids=["made", "not made"])
async def test_a_change_of_a_pot_that_is_never_answered_costs_no_unit(
    services: Services, clock: ManualClock, *, is_made: bool
) -> None:
    """Stock and budget are taken from, and closed: each of these four changes fails once."""
    scene, at, unanswered = Scene(services, clock), 0, 0
    while True:
        at += 1
        name = f"caller-{at}"
        await scene.healthy.settle_in(name, points=GIFT)
        store = AbsentPotStore(services.database, at, is_made=is_made)
        scene.doomed.redeeming._pots = Pots(store, clock)
        heard = await scene.doomed.redeem(name)
        if store.changes < at:
            break
        unanswered += isinstance(heard, UnavailableError)
        # The caller hears of the one that failed while the other may still be under way.
        await store.is_idle.wait()
        clock.advance(HOLD_FOR)
        await scene.healthy.pots.recover()
        await scene.check("redeem", name, await scene.healthy.redeem(name))
    assert (at, unanswered) == (5, 2)
    assert await findings(services) == []


@pytest.mark.parametrize("operation", ["redeem", "capture", "cancel", "refund", "end"])
async def test_whoever_dies_at_any_instant_has_done_it_once_or_not(
    services: Services, clock: ManualClock, operation: str
) -> None:
    scene, at = Scene(services, clock), 1
    while await scene.play(operation, at):
        at += 1
    # What is being sent cannot be held back any more: at such an instant nobody dies.
    assert scene.deaths > at // 2 > 10
    assert await findings(services) == []
