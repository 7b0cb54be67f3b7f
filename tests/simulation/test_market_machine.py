"""The whole market on a real server, by two processes, against the model, over histories that Hypothesis makes up.

Jobs, the matcher and commands die at any instant at which they wait; another process then goes on.
``TANHUI_TEST_PROFILE=nightly`` makes histories long; ``TANHUI_SEED`` repeats a run, ``TANHUI_BLOB`` the one failing
history whose blob Hypothesis printed as ``@reproduce_failure``.
"""

from __future__ import annotations

import copy
import os
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.model import Amending, OrderKind, Placing
from backend.market.pooling.model import Benefit
from tests import factories
from tests.floor import EVERYWHERE
from tests.integration.conftest import ALL_SHARDS
from tests.simulation.chance import IS_NIGHTLY, chosen_seed
from tests.simulation.market_asking import NAMES, Asking
from tests.simulation.market_model import Act, Model
from tests.simulation.market_real import open_markets, principal_of

if TYPE_CHECKING:
    from backend.settings import Settings

EXAMPLES, STEPS = (150, 60) if IS_NIGHTLY else (16, 36)
PEOPLE, PICKS = st.sampled_from(NAMES), st.integers(0, 999)
# The instant at which whoever works dies; 0 where nobody does.
DEATHS = st.one_of(st.just(0), st.integers(1, 90))
KG, AUDIT_EVERY, A_DAY = 1_000, 20, 40
GTC, GTD, IOC, FOK = TimeInForce.GTC, TimeInForce.GTD, TimeInForce.IOC, TimeInForce.FOK
AWAY = st.sampled_from([-1, 0, 0, 0, 1, 2, 3, -2, -3, 9, -9, 12])
CLOCKS = ("09:14", "09:16", "09:24", "09:25", "09:31", "11:29", "13:00", "14:59", "15:00")


@dataclass(frozen=True)
class Plan:
    """An order somebody is about to place; ``away`` is how many steps from the last price."""

    who: int
    side: Side
    grams: int
    away: int
    tif: TimeInForce
    is_market: bool
    minutes: int


PLANS = st.builds(
    Plan,
    who=PICKS,
    side=st.sampled_from(list(Side)),
    # From about 23 kg on the fee is more than a fen.
    grams=st.sampled_from([1, 2, 3, 7, 23, 37, 37, 61, 90, 120, 400, 4_000]).map(lambda kilos: kilos * KG)
    | st.sampled_from([500] + 9 * [47_000]),
    away=AWAY,
    tif=st.sampled_from([GTC, GTC, GTC, GTC, GTD, IOC, FOK]),
    is_market=st.sampled_from([False, False, False, False, True]),
    minutes=st.sampled_from([1, 30, 2_000]),
)
CROWDS = st.lists(PLANS, min_size=3, max_size=7)


def waiting(plans: list[Plan]) -> list[Plan]:
    """The same, most of them such as a call phase takes."""
    return [one if one.who % 9 == 0 else replace(one, is_market=False, tif=GTC) for one in plans]


class MarketMachine(Asking):
    """Batches, money and trading in any order; whoever works may die at any instant."""

    base: tuple[Model, datetime, int] | None = None
    traded: ClassVar[Counter[str]] = Counter()
    """How many trades there were by the taker's side, over all histories."""
    steps = 0

    # The beginning

    @initialize()
    def some_have_everything(self) -> None:
        """Three tonnes of three citizens are issued and traded, and all have money: made once, then restored."""
        if type(self).base is None:
            self.make_base()
            type(self).base = self.model, self.now, self.count
            self.real.base = self.real.documents()
        assert self.base is not None
        self.model, self.real.clock.current, self.count = copy.deepcopy(self.base)
        self.real.restore()

    def make_base(self) -> None:
        self.model = Model(self.real.both[0].programme.zone, self.real.both[0].market.settings)
        for name, benefit in zip(NAMES, (Benefit.FEN, Benefit.POINTS, Benefit.FEN), strict=True):
            self.authorise(name, benefit, is_given=True)
            for kg in (900, 300):
                self.ride(name, kg)
        self.open_batch(opens_both=False)
        self.batches_go_on(at=0)
        self.verify(0, named=(), shares_bps=(10,), is_other=False)
        self.issue(0, is_other=False)
        self.batches_go_on(at=0)
        for place, fen in enumerate((5_000, 90_000, 3_000_000, 2_000_000)):
            self.deposit(place, fen)
        self.list_instrument(0, 8_000)

    # Pooling

    @rule(name=PEOPLE, kg=st.sampled_from([1, 7, 300, 900, 1_000]))
    def ride(self, name: str, kg: int) -> None:
        """An act of yesterday, half an hour after the last."""
        today = self.model.day(self.now)
        before = sum(self.model.day(act.at) == today - timedelta(days=1) for act in self.model.acts[name])
        if before < A_DAY:
            act = self.real.run(self.real.floor.ride(name, kg, 30 * before - 690, ref=self.key()))
            self.model.ride(name, Act(act.id, kg * 1_000_000, act.occurred_at), act.settlement.points)

    @rule(at=DEATHS)
    def batches_go_on(self, at: int) -> None:
        self.check(lambda _: self.model.work_off(self.now), lambda one: one.market.pooling.batches.work_off(), at)

    @rule(name=PEOPLE, kg=st.sampled_from([900, 1_000]), named=PICKS, at=DEATHS)
    def ride_and_go_on(self, name: str, kg: int, named: int, at: int) -> None:
        """From acts to credits, so that histories go deep."""
        for one in (*NAMES, name):
            self.ride(one, kg)
        self.open_batch(opens_both=False)
        self.batches_go_on(at)
        self.verify(0, named=[named] * (named % 2), shares_bps=[named % 7 + 1], is_other=False)
        self.issue(0, is_other=False)
        self.batches_go_on(at // 2)
        self.list_instrument(0, (90, 700, 8_000)[named % 3])

    @rule(
        what=st.sampled_from(["authorise", "open", "open", "take back", "call off", "verify", "issue", "list"]),
        name=PEOPLE,
        pick=PICKS,
        at=DEATHS,
        shares_bps=st.lists(st.integers(1, 900), max_size=2),
        is_other=st.booleans(),
    )
    def do_with_batches(
        self, what: str, name: str, pick: int, at: int, shares_bps: list[int], *, is_other: bool
    ) -> None:
        """Whatever anybody may do with one, in time or not."""
        benefit = (Benefit.FEN, Benefit.POINTS)[pick % 2]
        {
            "authorise": lambda: self.authorise(name, benefit, is_given=is_other),
            "open": lambda: self.open_batch(opens_both=is_other),
            "take back": lambda: self.take_back(name, pick, at),
            "call off": lambda: self.call_off(pick),
            "verify": lambda: self.verify(pick, [pick, pick + at][: pick % 3], shares_bps, is_other=is_other),
            "issue": lambda: self.issue(pick, is_other=is_other),
            "list": lambda: self.list_instrument(pick, (90, 700, 8_000)[pick % 3]),
        }[what]()

    # Money

    @rule(
        what=st.sampled_from(["deposit", "ask", "ask", "settle", "settle", "decide", "retire", "retire", "return"]),
        place=st.integers(0, 3),
        amount=st.sampled_from([None, 1, 7, 999, 40_000, 10**7]),
        pick=PICKS,
        at=DEATHS,
    )
    def do_with_money(self, what: str, place: int, amount: int | None, pick: int, at: int) -> None:
        """In and out; and credits that are used up, or whose proceeds are returned."""
        stage = ("PAID", "PAID", "REJECTED", "CANCELLED")[pick % 4]
        {
            "deposit": lambda: self.deposit(place, amount or 1),
            "ask": lambda: self.ask_for_money(place, amount or 1, at),
            "settle": lambda: self.move_payout(pick, "SETTLING", at),
            "decide": lambda: self.move_payout(pick, stage, at),
            "retire": lambda: self.retire(pick, amount or 1, at),
            "return": lambda: self.return_benefits(pick, amount, at),
        }[what]()

    @rule()
    def what_is_over_ends(self) -> None:
        """The workers of book and payouts."""
        self.model.lapse(self.now)
        self.model.end_payouts(self.now)
        self.real.run(self.real.both[0].expiry.expire_due(ALL_SHARDS))
        self.real.run(self.real.both[1].market.payouts.end_overdue())

    # Trading

    def some_credit(self, pick: int) -> str:
        credits_traded = list(self.model.instruments)
        return credits_traded[-1 - pick % len(credits_traded)]

    def price(self, credit: str, away: int) -> int:
        instrument = self.model.instruments[credit]
        last = instrument.last or instrument.reference
        return last + away * max(1, last // 100)

    @rule(pick=PICKS, plans=st.lists(PLANS, min_size=1, max_size=4), is_matched=st.booleans(), at=DEATHS)
    def trade(self, pick: int, plans: list[Plan], at: int, *, is_matched: bool) -> None:
        credit = self.some_credit(pick)
        for plan in plans:
            self.place(plan, credit, at if plan is plans[0] else 0)
        if is_matched:
            self.match(at // 2)

    @rule(pick=PICKS, plans=CROWDS, at=DEATHS)
    def crowd(self, pick: int, plans: list[Plan], at: int) -> None:
        """Much trading at once, on a day of trade."""
        self.come_to_trade(pick)
        self.trade(pick, plans, 0, is_matched=True)
        first = plans[0]
        self.ask_of_orders([first.who, pick], "AMEND", first.away, plans[1].grams, "", at)
        self.trade(pick, plans[::2], at, is_matched=False)
        self.ask_of_orders([pick], "CANCEL" if at else "AMEND", plans[1].away, first.grams, "", 0)
        self.match(at)

    def come_to_trade(self, pick: int) -> None:
        if self.model.instruments[self.some_credit(pick)].halted:
            self.run_the_market(pick, "resume", 1, None, is_final=False)
        if self.model.phase(self.some_credit(pick), self.now)[0] != "CONTINUOUS":
            self.wait_until("10:00", is_matched=True)

    @rule(pick=PICKS, plans=CROWDS, at=DEATHS, days=st.sampled_from([0, 0, 2]), is_matched=st.booleans())
    def come_late(self, pick: int, plans: list[Plan], at: int, days: int, *, is_matched: bool) -> None:
        """A matcher that was away while orders ended, perhaps for longer than holds last."""
        self.come_to_trade(pick)
        short = [replace(one, is_market=False, tif=GTD, minutes=30) for one in plans]
        self.trade(pick, short, 0, is_matched=is_matched)
        self.pass_time(600, 0)
        self.trade(pick, [replace(one, side=one.side.opposite) for one in plans], at, is_matched=False)
        if not days:
            self.ask_of_orders([pick], "AMEND", 0, plans[0].grams, "", 0)
        self.pass_time(4_000, days)
        self.match(at)

    @rule(pick=PICKS, plans=CROWDS, at=DEATHS, is_early=st.booleans())
    def call(self, pick: int, plans: list[Plan], at: int, *, is_early: bool) -> None:
        """An opening auction."""
        self.wait_until("09:16", is_matched=True)
        self.trade(pick, waiting(plans), 0, is_matched=is_early)
        self.wait_until("09:31", is_matched=False)
        self.match(at)

    @rule(pick=PICKS, plans=CROWDS, at=DEATHS, away=st.sampled_from([None, -9, -1, 0]), is_final=st.booleans())
    def auction(self, pick: int, plans: list[Plan], at: int, away: int | None, *, is_final: bool) -> None:
        """An auction of staff's, and who asks for something in it."""
        self.run_the_market(pick, "resume", 1, None, is_final=False)
        self.match(0)
        self.run_the_market(pick, "auction", 20, away, is_final=is_final)
        self.trade(pick, waiting(plans), 0, is_matched=is_final)
        self.ask_of_orders([pick], "AMEND" if at else "CANCEL", -1, 2 * KG, "", 0)
        self.pass_time(1_201, 0)
        self.match(at)
        self.return_benefits(pick, None, at // 2)

    def place(self, plan: Plan, credit: Any, at: int) -> None:
        owners, sellers = [*self.owners, *self.pools], sorted(self.model.registers[credit].runs())
        if plan.side is Side.SELL and plan.who % 10:
            owners = [one for one in sellers if not one.startswith("retired:")]
        owner, key = owners[plan.who % len(owners)], self.key()
        who, pool = principal_of(owner)
        self.real.clock.advance(timedelta(milliseconds=1))
        tif = (IOC if plan.tif is not FOK else FOK) if plan.is_market else plan.tif
        price = None if plan.is_market else self.price(credit, plan.away)
        until = self.now + timedelta(minutes=plan.minutes) if tif is GTD else None
        kind = OrderKind.MARKET if plan.is_market else OrderKind.LIMIT
        placing = Placing(credit, plan.side, kind, price, plan.grams, tif, until, pool)
        self.check(
            lambda told: self.model.place(
                getattr(told, "id", ""), owner, credit, plan.side, price, plan.grams, tif, until, self.now
            ),
            lambda one: one.market.orders.place(who, placing, key=key),
            at,
            credit,
        )

    @rule(
        plans=CROWDS,
        picks=st.lists(PICKS, min_size=1, max_size=3),
        kind=st.sampled_from(["CANCEL", "AMEND"]),
        away=AWAY,
        grams=st.sampled_from([1, 2, 3, 5, 9_000]).map(lambda kilos: kilos * KG),
        by=st.sampled_from(["", "", "", "", "staff", "citizen:carol"]),
        at=DEATHS,
    )
    def haggle(self, plans: list[Plan], picks: list[int], kind: str, away: int, grams: int, by: str, at: int) -> None:
        """Orders, and what somebody then asks of some."""
        self.trade(picks[0], plans, 0, is_matched=picks[0] % 4 > 0)
        self.ask_of_orders(picks, kind, away, grams, by, at)

    def ask_of_orders(self, picks: list[int], kind: str, away: int, grams: int, by: str, at: int) -> None:
        """Of one that is open, mostly."""
        some = [one for one in self.model.orders.values() if one.is_open or picks[0] % 10 == 0]
        for pick in picks if some else ():
            order, key = some[pick % len(some)], self.key()
            asker = "staff" if order.owner.startswith("pool:") else by or order.owner
            who = factories.ADMIN if asker == "staff" else principal_of(asker)[0]
            self.real.clock.advance(timedelta(milliseconds=1))
            name, price = order.id, None if pick % 5 == 1 else self.price(order.credit, away)
            wish = kind, price, None if pick % 5 == 2 else grams

            def ask(one: Any, who: Any = who, name: Any = name, wish: Any = wish, key: str = key) -> Any:
                if kind == "CANCEL":
                    return one.market.orders.cancel(who, name, key=key)
                return one.market.orders.amend(who, name, Amending(*wish[1:]), key=key)

            def ask_model(_: Any, name: str = name, asker: str = asker, wish: Any = wish) -> None:
                self.model.ask(name, asker, wish, self.now)

            self.check(ask_model, ask, at if pick is picks[0] else 0)

    @rule(at=DEATHS)
    def match(self, at: int) -> None:
        """By a matcher that may die at any instant; the other goes on."""
        # Why orders end whose holds are over (``HOLD_LOST`` or ``EXPIRED``) depends on what one round tries to fill.
        self.real.cut_rounds(is_cut=all(one.hold_ends > self.now for one in self.model.orders.values() if one.is_open))
        self.check(lambda _: self.model.match(self.now), lambda one: one.market.exchange.matching.run(EVERYWHERE), at)

    @rule(
        pick=PICKS,
        what=st.sampled_from(["halt", "resume", "resume", "session", "auction"]),
        minutes=st.sampled_from([1, 20]),
        away=st.sampled_from([None, -9, -1, 0]),
        is_final=st.booleans(),
    )
    def run_the_market(self, pick: int, what: str, minutes: int, away: int | None, *, is_final: bool) -> None:
        credit: Any = self.some_credit(pick)
        until, key = self.now + timedelta(minutes=minutes), self.key()
        floor = None if away is None else self.price(credit, away)

        def ask(one: Any) -> Any:
            desk, by = one.market.exchange.desk, factories.ADMIN
            return {
                "halt": lambda: desk.halt(by, credit, "异常波动", key=key),
                "resume": lambda: desk.resume(by, credit, key=key),
                "session": lambda: desk.open_session(by, credit, until, key=key),
                "auction": lambda: desk.open_auction(by, credit, until, floor_fen=floor, irrevocable=is_final, key=key),
            }[what]()

        model = self.model
        self.check(
            {
                "halt": lambda _: model.halt(credit, is_halted=True),
                "resume": lambda _: model.halt(credit, is_halted=False),
                "session": lambda _: model.open_session(credit, until, self.now),
                "auction": lambda _: model.open_auction(credit, until, floor, self.now, is_final=is_final),
            }[what],
            ask,
        )

    # Time

    @rule(seconds=st.sampled_from([1, 50, 600, 4_000]), days=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 3, 40]))
    def pass_time(self, seconds: int, days: int) -> None:
        self.real.clock.advance(timedelta(seconds=seconds, days=days))

    @rule(to=st.sampled_from(CLOCKS), is_matched=st.booleans())
    def wait_until(self, to: str, *, is_matched: bool) -> None:
        """The next working day's phase; the matcher may have been there in the evening."""
        if is_matched:
            self.match(0)
        day = self.model.day(self.now)
        while True:
            then = datetime.combine(day, time.fromisoformat(to), self.model.zone)
            if then > self.now and day.isoweekday() in self.model.settings.weekdays:
                break
            day += timedelta(days=1)
        self.real.clock.advance(then - self.now)

    # What both hold

    @invariant()
    def both_hold_the_same(self) -> None:
        self.compare()
        self.steps += 1
        if self.steps % AUDIT_EVERY == 0:
            self.audit()

    def audit(self) -> None:
        # Holds that ended before their orders did are the book's worker's to set free.
        self.what_is_over_ends()
        assert self.real.findings() == []

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.match(0)
            self.audit()
            self.both_hold_the_same()
            self.traded.update(str(trade[7]) for one in self.model.instruments.values() for trade in one.trades)


def test_the_market_agrees_with_the_model(settings: Settings) -> None:
    with open_markets(settings, *NAMES) as real:
        bound = type("BoundMarketMachine", (MarketMachine,), {"real": real})
        hypothesis.seed(chosen_seed())(bound)
        if blob := os.environ.get("TANHUI_BLOB"):
            hypothesis.reproduce_failure(hypothesis.__version__, blob.encode())(bound)
        run_state_machine_as_test(bound, settings=HISTORIES)
        # Histories that do not go this deep try nothing.
        print(f"{real.deaths} deaths, trades {dict(bound.traded)}")  # type: ignore[attr-defined]  # noqa: T201 - a figure
        assert real.deaths > EXAMPLES
        assert min(bound.traded[side] for side in ("BUY", "SELL", "None")) > 0  # type: ignore[attr-defined]


HISTORIES = hypothesis.settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    # A shorter history takes minutes to find: at night there is time for that.
    phases=list(Phase) if IS_NIGHTLY else [Phase.explicit, Phase.generate],
)
