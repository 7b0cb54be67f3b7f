"""The whole market on a real server, by two processes, against the model, over histories that Hypothesis makes up.

Jobs, the matcher and commands die at any instant at which they wait; another process then goes on.
``TANHUI_TEST_PROFILE=nightly`` makes histories long; ``TANHUI_SEED`` repeats a run, ``TANHUI_BLOB`` the one failing
history whose blob Hypothesis printed as ``@reproduce_failure``.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from backend.ledger.model import CNY
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.model import Amending, OrderKind, Placing
from backend.market.pooling.model import Benefit
from backend.market.retirement.model import Beneficiary, RetirementPurpose, Retiring
from backend.rules.model import Category
from tests import factories
from tests.integration.banking import FAY, FRED, ICBC
from tests.integration.batching import ANN, BEN, BOTH, PROJECT, REPORT, VERA, off, share_off
from tests.integration.conftest import ALL_SHARDS
from tests.simulation.chance import IS_NIGHTLY, chosen_seed
from tests.simulation.market_model import Act, Model
from tests.simulation.market_real import RealMarket, account_of, open_markets, principal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backend.settings import Settings

EXAMPLES, STEPS = (150, 60) if IS_NIGHTLY else (40, 70)
NAMES = ("alice", "bob", "carol")
PEOPLE, PICKS = st.sampled_from(NAMES), st.integers(0, 999)
# The instant at which whoever works dies; mostly nobody does.
DEATHS = st.one_of(st.just(0), st.just(0), st.integers(1, 90))
KG, AUDIT_EVERY, A_DAY, MOST_BATCHES = 1_000, 12, 40, 4
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
    grams=st.sampled_from([1, 1, 2, 3, 5, 8, 60, 90, 200, 400, 4_000]).map(lambda kilos: kilos * KG)
    | st.sampled_from([500] + 9 * [7_000]),
    away=AWAY,
    tif=st.sampled_from([GTC, GTC, GTC, GTC, GTD, IOC, FOK]),
    is_market=st.sampled_from([False, False, False, False, True]),
    minutes=st.sampled_from([1, 30, 2_000]),
)
CROWDS = st.lists(PLANS, min_size=3, max_size=7)


def waiting(plans: list[Plan]) -> list[Plan]:
    """The same, most of them such as a call phase takes."""
    return [one if one.who % 9 == 0 else replace(one, is_market=False, tif=GTC) for one in plans]


from collections import Counter
STAT=Counter()
class MarketMachine(RuleBasedStateMachine):
    """Everything is asked of both; they must answer alike and hold the same."""

    real: RealMarket
    base: tuple[Model, datetime, int] | None = None
    model: Model

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.steps = 0
        self.entries: dict[str, str] = {}

    @property
    def now(self) -> datetime:
        return self.real.clock.now()

    def key(self) -> str:
        self.count += 1
        return f"market-{self.count:05}"

    def check(
        self, model_call: Callable[[Any], Any], real_call: Callable[..., Any], at: int = 0, credit: str = ""
    ) -> Any:
        """The real answer, where the model says so too; None where both refuse alike."""
        told = self.real.ask_mortal(real_call, at, credit)
        refused: tuple[object, ...] = ()
        try:
            model_call(told)
        except ValueError as refusal:
            refused = refusal.args
        STAT[str(refused[:1])] += 1
        assert (told if isinstance(told, tuple) else ()) == refused
        return None if refused else told

    @property
    def owners(self) -> list[str]:
        return [*(f"citizen:{name}" for name in NAMES), f"enterprise:{self.real.firm}"]

    @property
    def pools(self) -> list[str]:
        return [f"pool:{code}" for code in self.model.batches]

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

    def authorise(self, name: str, benefit: Benefit, *, is_given: bool) -> None:
        who, key = factories.citizen(name), self.key()
        if is_given:
            self.real.run(self.real.services.market.pooling.consents.authorise(who, None, benefit, key=key))
            self.model.consents[name] = benefit.value
        elif self.model.consents.pop(name, None):
            self.real.run(self.real.services.market.pooling.consents.withdraw(who, key=key))

    def open_batch(self, *, opens_both: bool) -> None:
        if len(self.model.batches) > MOST_BATCHES:
            return
        since, until = self.real.floor.days
        opener, key, profile = (BOTH if opens_both else ANN), self.key(), self.real.both[0].rules.profile
        batch = self.real.run(
            self.real.services.market.pooling.batches.open(
                opener, Category.TRANSIT, profile, since, until, PROJECT, key=key
            )
        )
        self.model.open_batch(batch.code, str(opener), since, until)

    def some_batch(self, pick: int) -> str:
        codes = list(self.model.batches)
        return codes[-1 - pick % len(codes)]

    @rule(at=DEATHS)
    def batches_go_on(self, at: int) -> None:
        self.check(lambda _: self.model.work_off(), lambda one: one.market.pooling.batches.work_off(), at)

    def take_back(self, name: str, pick: int, at: int) -> None:
        code, key, who = self.some_batch(pick), self.key(), factories.citizen(name)
        self.check(
            lambda _: self.model.withdraw(name, code),
            lambda one: one.market.pooling.batches.withdraw(who, code, key=key),
            at,
        )

    def call_off(self, pick: int) -> None:
        code, key = self.some_batch(pick), self.key()
        self.check(
            lambda _: self.model.cancel_batch(code),
            lambda one: one.market.pooling.batches.cancel(ANN, code, "重复立项", key=key),
        )

    def verify(self, pick: int, named: Sequence[int], shares_bps: Sequence[int], *, is_other: bool) -> None:
        code, key, by = self.some_batch(pick), self.key(), (BOTH if is_other else VERA)
        acts = sorted(act.id for given in self.model.batches[code].acts.values() for act in given)
        chosen: list[Any] = [acts[one % len(acts)] for one in named if acts]
        adjustments = [*map(off, chosen), *map(share_off, shares_bps)]
        self.check(
            lambda _: self.model.verify(code, str(by), chosen, shares_bps),
            lambda one: one.market.pooling.verifying.verify(by, code, REPORT, adjustments, key=key),
        )

    def issue(self, pick: int, *, is_other: bool) -> None:
        code, key, by = self.some_batch(pick), self.key(), (BOTH if is_other else BEN)
        self.check(
            lambda _: self.model.issue(code, str(by)),
            lambda one: one.market.pooling.batches.issue(by, code, key=key),
        )

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

    def deposit(self, place: int, fen: int) -> None:
        owner = self.owners[place]
        self.real.run(self.real.bank.deposited(account_of(owner), fen))
        self.model.fen[owner] += fen

    def ask_for_money(self, place: int, fen: int, at: int) -> None:
        owner, key = self.owners[place], self.key()
        who = principal_of(owner)[0]
        self.check(
            lambda told: self.model.pay_out(getattr(told, "id", ""), owner, fen, self.now),
            lambda one: one.market.payouts.request(who, fen, ICBC, key=key),
            at,
        )

    def move_payout(self, pick: int, stage: str, at: int) -> None:
        if not self.model.payouts:
            return
        payout, key = sorted(self.model.payouts)[pick % len(self.model.payouts)], self.key()
        owner, entry, recorded = self.model.payouts[payout][0], self.real.bank.entry(), self.entries.get(payout, "none")

        def ask(one: Any) -> Any:
            doors = one.market.payouts
            return {
                "SETTLING": lambda: doors.settle(FAY, payout, entry, key=key),
                "PAID": lambda: doors.approve(FRED, payout, recorded, key=key),
                "REJECTED": lambda: doors.reject(FRED, payout, "账户不符", key=key),
                "CANCELLED": lambda: doors.cancel(principal_of(owner)[0], payout, key=key),
            }[stage]()

        if self.check(lambda _: self.model.move_payout(payout, stage, self.now), ask, at) and stage == "SETTLING":
            self.entries[payout] = entry.reference

    def return_benefits(self, pick: int, fen: int | None, at: int) -> None:
        """What a pool has sold for, in a round that is proposed, approved and paid."""
        code: Any = self.some_batch(pick)
        keys = self.key(), self.key()

        async def ask(one: Any) -> Any:
            made = await one.market.benefits.propose(FAY, code, fen, key=keys[0])
            await one.market.benefits.approve(FRED, made.id, key=keys[1])
            return await one.market.paying.work_off()

        self.check(lambda _: self.model.return_benefits(code, fen), ask, at)

    @rule()
    def what_is_over_ends(self) -> None:
        """The workers of book and payouts."""
        self.model.lapse(self.now)
        self.model.end_payouts(self.now)
        self.real.run(self.real.both[0].expiry.expire_due(ALL_SHARDS))
        self.real.run(self.real.both[1].market.payouts.end_overdue())

    def retire(self, pick: int, grams: int, at: int) -> None:
        codes, owners, key = list(self.model.batches), [*self.owners, *self.pools], self.key()
        credit: Any = f"credit:{codes[pick % len(codes)]}"
        owner = owners[pick % len(owners)]
        who, pool = principal_of(owner)
        asked = Retiring(
            credit=credit,
            grams=grams,
            beneficiary=Beneficiary("Spring Marathon", "春季马拉松"),
            purpose=RetirementPurpose.EVENT,
            statement="",
        )
        self.check(
            lambda told: self.model.retire(owner, credit, grams, getattr(told, "id", "")),
            lambda one: one.market.retirement.retire(who, asked, key=key, pool=pool),
            at,
        )

    # Trading

    def list_instrument(self, pick: int, reference: int) -> None:
        credit, key = f"credit:{self.some_batch(pick)}", self.key()
        self.check(
            lambda _: self.model.list_instrument(credit, reference, self.now),
            lambda one: one.market.exchange.desk.list_instrument(factories.ADMIN, credit, reference, key=key),
        )

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
        if self.model.instruments[self.some_credit(pick)].halted:
            self.run_the_market(pick, "resume", 1, None, is_final=False)
        if self.model.phase(self.some_credit(pick), self.now)[0] != "CONTINUOUS":
            self.wait_until("10:00", is_matched=True)
        self.trade(pick, plans, 0, is_matched=True)
        first = plans[0]
        self.ask_of_orders([first.who, pick], "AMEND", first.away, plans[1].grams, "", at)
        self.trade(pick, plans[::2], at, is_matched=False)
        self.ask_of_orders([pick], "CANCEL" if at else "AMEND", plans[1].away, first.grams, "", 0)
        self.match(at)

    @rule(pick=PICKS, plans=CROWDS, at=DEATHS, is_early=st.booleans())
    def call(self, pick: int, plans: list[Plan], at: int, *, is_early: bool) -> None:
        """An opening auction."""
        self.wait_until("09:16", is_matched=True)
        self.trade(pick, waiting(plans), 0, is_matched=is_early)
        self.wait_until("09:26", is_matched=False)
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
        picks=st.lists(PICKS, min_size=1, max_size=3),
        kind=st.sampled_from(["CANCEL", "AMEND"]),
        away=AWAY,
        grams=st.sampled_from([1, 2, 3, 5, 9_000]).map(lambda kilos: kilos * KG),
        by=st.sampled_from(["", "", "", "", "staff", "citizen:carol"]),
        at=DEATHS,
    )
    def ask_of_orders(self, picks: list[int], kind: str, away: int, grams: int, by: str, at: int) -> None:
        """Of one that is open, mostly."""
        some = [one for one in self.model.orders.values() if one.is_open or picks[0] % 10 == 0]
        for pick in picks if some else ():
            order, key = some[pick % len(some)], self.key()
            asker = "staff" if order.owner.startswith("pool:") else by or order.owner
            who = factories.ADMIN if asker == "staff" else principal_of(asker)[0]
            self.real.clock.advance(timedelta(milliseconds=1))
            price, name = self.price(order.credit, away), order.id
            if kind == "AMEND" and order.side is Side.SELL:
                grams = min(grams, max(order.open, (self.model.available(order.owner, order.credit) + order.held) // KG * KG))
            wish = (kind, price, grams)

            def ask(one: Any, who: Any = who, name: Any = name, price: int = price, key: str = key) -> Any:
                if kind == "CANCEL":
                    return one.market.orders.cancel(who, name, key=key)
                return one.market.orders.amend(who, name, Amending(price, grams), key=key)

            def ask_model(_: Any, name: str = name, asker: str = asker, wish: Any = wish) -> None:
                self.model.ask(name, asker, wish, self.now)

            self.check(ask_model, ask, at if pick is picks[0] else 0)

    @rule(at=DEATHS)
    def match(self, at: int) -> None:
        """By a matcher that may die at any instant; the other goes on."""
        self.check(lambda _: self.model.match(self.now), lambda one: one.market.exchange.matching.match_all(), at)

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
        owners = [*self.owners, *self.pools]
        held = self.real.held(owners)
        assert held == self.expected(owners)
        self.steps += 1
        STAT["steps"] += 1
        if self.steps % AUDIT_EVERY == 0:
            self.audit()

    def audit(self) -> None:
        # Holds that ended before their orders did are the book's worker's to set free.
        self.what_is_over_ends()
        assert self.real.findings() == []

    def expected(self, owners: list[str]) -> dict[str, Any]:
        model = self.model
        return {
            "pages": {owner: self.page(owner) for owner in owners},
            "serials": {credit: register.runs() for credit, register in model.registers.items()},
            "orders": {order.id: order.told for order in model.orders.values()},
            "instruments": {
                credit: (one.reference, one.day, one.last, one.call, one.sequence, len(one.trades))
                for credit, one in model.instruments.items()
            },
            "trades": {credit: one.trades for credit, one in model.instruments.items()},
            "batches": {code: batch.stage for code, batch in model.batches.items()},
            "contributions": {
                (code, citizen): told for code, one in model.batches.items() for citizen, told in one.told.items()
            },
            "payouts": {payout: one[:3] for payout, one in model.payouts.items()},
        }

    def page(self, owner: str) -> tuple[Any, ...]:
        model = self.model
        grams = {credit: register.grams(owner) for credit, register in model.registers.items()}
        return (
            model.fen[owner],
            model.held(owner, CNY),
            model.mg[owner],
            {credit: (has, model.held(owner, credit)) for credit, has in grams.items() if has},
            model.points[owner],
        )

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.match(0)
            for o in self.model.orders.values():
                STAT[f"order {o.status} {o.reason}"] += 1
                STAT[f"outcome {o.outcome}"] += 1
                STAT["multi fills"] += len(o.fills) > 1
            for i in self.model.instruments.values():
                for t in i.trades:
                    STAT[f"trade {t[7]} fee {bool(t[5] or t[6])} runs {min(len(t[8]),3)} v0 {t[2]==0}"] += 1
            for b in self.model.batches.values():
                STAT["batch "+b.stage] += 1
            for b in self.model.payouts.values():
                STAT["payout "+b[2]] += 1
            self.audit()
            self.both_hold_the_same()


def test_the_market_agrees_with_the_model(settings: Settings) -> None:
    with open_markets(settings, *NAMES) as real:
        bound = type("BoundMarketMachine", (MarketMachine,), {"real": real})
        hypothesis.seed(chosen_seed())(bound)
        if blob := os.environ.get("TANHUI_BLOB"):
            hypothesis.reproduce_failure(hypothesis.__version__, blob.encode())(bound)
        run_state_machine_as_test(bound, settings=HISTORIES)
        for k in sorted(STAT): print("STAT", k, STAT[k])
        print("STAT deaths", real.deaths)


HISTORIES = hypothesis.settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
