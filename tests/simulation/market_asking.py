"""What the market is asked in histories, of model and real services alike; what is asked when, the machine says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis.stateful import RuleBasedStateMachine

from backend.ledger.model import CNY
from backend.market.retirement.model import Beneficiary, RetirementPurpose, Retiring
from backend.rules.model import Category
from tests import factories
from tests.integration.banking import FAY, FRED, ICBC
from tests.integration.batching import ANN, BEN, BOTH, PROJECT, REPORT, VERA, off, share_off
from tests.simulation.market_real import account_of, principal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from backend.market.pooling.model import Benefit
    from backend.runtime import Services
    from tests.simulation.market_model import Model
    from tests.simulation.market_real import RealMarket

NAMES = ("alice", "bob", "carol")
MOST_BATCHES = 4


class Asking(RuleBasedStateMachine):
    """Everything is asked of both; they must answer alike and hold the same."""

    real: RealMarket
    model: Model

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
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
        assert (told if isinstance(told, tuple) else ()) == refused, (told, refused)
        return None if refused else told

    @property
    def owners(self) -> list[str]:
        return [*(f"citizen:{name}" for name in NAMES), f"enterprise:{self.real.firm}"]

    @property
    def pools(self) -> list[str]:
        return [f"pool:{code}" for code in self.model.batches]

    # Pooling

    def some_batch(self, pick: int) -> str:
        codes = list(self.model.batches)
        return codes[-1 - pick % len(codes)]

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
        drawing = self.key()

        async def ask(one: Services) -> Any:
            await one.market.pooling.verifying.draw_sample(by, code, 2, key=drawing)
            return await one.market.pooling.verifying.verify(by, code, REPORT, adjustments, key=key)

        self.check(lambda _: self.model.verify(code, str(by), chosen, shares_bps), ask)

    def issue(self, pick: int, *, is_other: bool) -> None:
        code, key, by = self.some_batch(pick), self.key(), (BOTH if is_other else BEN)
        self.check(
            lambda _: self.model.issue(code, str(by)),
            lambda one: one.market.pooling.batches.issue(by, code, key=key),
        )

    # Money and credits

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

    def list_instrument(self, pick: int, reference: int) -> None:
        credit, key = f"credit:{self.some_batch(pick)}", self.key()
        self.check(
            lambda _: self.model.list_instrument(credit, reference, self.now),
            lambda one: one.market.exchange.desk.list_instrument(factories.ADMIN, credit, reference, key=key),
        )

    # What both hold

    def compare(self) -> None:
        owners = [*self.owners, *self.pools]
        held = self.real.held(owners)
        expected = self.expected(owners)
        differing = [
            (name, place, held[name].get(place), expected[name].get(place))
            for name in expected
            for place in held[name].keys() | expected[name].keys()
            if held[name].get(place) != expected[name].get(place)
        ]
        assert differing == [], differing

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
