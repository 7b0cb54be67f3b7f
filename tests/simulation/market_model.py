"""The market one can read in five minutes, written from the issue's words; must not import the rules it judges.

From acts to batches, from batches to serials, money out and credits used up; the exchange stands in
``market_trading``. Nothing is counted up or down but money and milligrams: all else follows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from tests.simulation.market_trading import MOST_PAYOUTS, UNDER_WAY, Trading
from tests.simulation.market_values import BPS, TONNE, Register, Run, up
from tests.simulation.reference import demand

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, tzinfo

    from backend.market.settings import MarketSettings

GRAM_MG, FEN = 1_000, 100
BOUND = {"VERIFIED", "ISSUING", "ISSUED"}


def shared(total: int, weights: Sequence[int]) -> list[int]:
    """A whole in proportion to weights: everybody the whole part, what is left to the largest remainders in order."""
    # Of nothing at all everybody gets nothing.
    whole = sum(weights) or 1
    parts = [total * weight // whole for weight in weights]
    for place in sorted(range(len(weights)), key=lambda n: -(total * weights[n] % whole))[: total - sum(parts)]:
        parts[place] += 1
    return parts


@dataclass
class Batch:
    """``acts`` are those given, by citizen, ``given`` since when; ``choices`` how each wants to be paid."""

    opener: str
    since: datetime
    until: datetime
    vintage: int
    stage: str = "GATHERING"
    acts: dict[str, list[Act]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    given: dict[str, datetime] = field(default_factory=dict)
    split: dict[str, tuple[int, int]] = field(default_factory=dict)
    verifier: str = ""
    by_act: Counter[str] = field(default_factory=Counter)
    pro_rata: int = 0
    parts: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    """Milligrams taken off and left over, grams of pool and citizen, by contributor."""
    converted: Counter[str] = field(default_factory=Counter)
    """Fen for which contributors got points."""

    def mg(self, citizen: str) -> int:
        return sum(act.mg for act in self.acts[citizen])

    @property
    def told(self) -> dict[str, tuple[object, ...]]:
        """How each contribution stands: of those given back no more than that."""
        parts = self.parts if self.stage == "ISSUED" else {}
        given: dict[str, tuple[object, ...]] = {
            one: (self.choices[one], len(acts), self.split[one], *parts.get(one, (None, None, 0, 0)))
            for one, acts in self.acts.items()
        }
        return given | {one: (why,) for one, why in self.left.items()}


def weigh(batch: Batch, by_act: Counter[str], pro_rata: int) -> list[tuple[str, int, int, int]]:
    """By contributor: milligrams that no act's deduction took, what of them goes pro rata, whole grams that stay."""
    citizens = sorted(batch.acts)
    lefts = [batch.mg(citizen) - by_act[citizen] for citizen in citizens]
    offs = shared(pro_rata, lefts)
    lines = zip(citizens, lefts, offs, strict=True)
    return [(citizen, left, off, (left - off) // GRAM_MG) for citizen, left, off in lines]


def whole_tonnes(lines: Sequence[tuple[str, int, int, int]]) -> int:
    """Grams that can be issued."""
    return sum(line[3] for line in lines) // TONNE * TONNE


@dataclass(frozen=True)
class Act:
    id: str
    mg: int
    at: datetime


class Model(Trading):
    """Does what is asked, one after the other; ``ValueError`` says why not."""

    def __init__(self, zone: tzinfo, settings: MarketSettings) -> None:
        super().__init__(zone, settings)
        self.mg: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.acts: dict[str, list[Act]] = defaultdict(list)
        self.consents: dict[str, str] = {}
        self.batches: dict[str, Batch] = {}

    # Pooling

    def ride(self, citizen: str, act: Act, points: int) -> None:
        self.acts[citizen].append(act)
        self.mg[f"citizen:{citizen}"] += act.mg
        self.points[f"citizen:{citizen}"] += points

    def open_batch(self, code: str, opener: str, since: date, until: date) -> None:
        begin, end = (datetime.combine(day, time(), self.zone).astimezone(UTC) for day in (since, until))
        self.batches[code] = Batch(opener, begin, end, since.year)

    def gather(self, code: str, now: datetime) -> None:
        batch = self.batches[code]
        pooled = {act.id for one in self.batches.values() for acts in one.acts.values() for act in acts}
        for citizen in sorted(self.consents):
            free, given = self.mg[f"citizen:{citizen}"], list[Act]()
            mine = sorted(self.acts[citizen], key=lambda act: (act.at, act.id))
            for act in [one for one in mine if batch.since <= one.at < batch.until and one.id not in pooled]:
                free -= act.mg
                if free < 0:
                    break
                given.append(act)
            if given:
                mg = sum(act.mg for act in given)
                batch.acts[citizen], batch.given[citizen] = given, now
                self.split_again(citizen, batch.vintage)
                batch.choices[citizen] = self.consents[citizen]
                self.mg.update({f"citizen:{citizen}": -mg, f"pool:{code}": mg})
        batch.stage = "GATHERED"

    def split_again(self, citizen: str, vintage: int) -> None:
        """What was given first is the pool's up to the threshold; behind a verdict nothing changes any more."""
        mine = [
            (one.given[citizen], code, one)
            for code, one in self.batches.items()
            if one.vintage == vintage and citizen in one.acts
        ]
        left = self.settings.aggregation_threshold_g * GRAM_MG
        left -= sum(one.split[citizen][0] for _, _, one in mine if one.stage in BOUND)
        for _, _, one in sorted(mine, key=lambda place: place[:2]):
            if one.stage not in BOUND:
                mg = one.mg(citizen)
                one.split[citizen] = pool, _ = min(mg, max(left, 0)), mg - min(mg, max(left, 0))
                left -= pool

    def give_back(self, code: str, citizen: str, why: str) -> None:
        batch = self.batches[code]
        self.mg.update({f"citizen:{citizen}": batch.mg(citizen), f"pool:{code}": -batch.mg(citizen)})
        batch.left[citizen] = why
        del batch.acts[citizen]
        self.split_again(citizen, batch.vintage)

    def withdraw(self, citizen: str, code: str) -> None:
        batch = self.batches[code]
        demand(citizen in batch.acts, "NO_CONTRIBUTION")
        demand(batch.stage != "CANCELLING", "BATCH_STAGE")
        demand(batch.stage in {"GATHERING", "GATHERED"}, "CONTRIBUTION_BOUND")
        self.give_back(code, citizen, "WITHDRAWN")

    def cancel_batch(self, code: str) -> None:
        demand(self.batches[code].stage in {"GATHERING", "GATHERED"}, "BATCH_STAGE")
        self.batches[code].stage = "CANCELLING"

    def verify(self, code: str, by: str, acts: Sequence[str], shares_bps: Sequence[int]) -> None:
        """Acts are taken off first, then each share of what is left, rounded up."""
        batch = self.batches[code]
        demand(batch.stage == "GATHERED", "BATCH_STAGE")
        demand(batch.acts, "EMPTY_BATCH")
        demand(batch.opener != by, "FOUR_EYES")
        sizes = {act.id: (citizen, act.mg) for citizen, given in batch.acts.items() for act in given}
        demand(set(acts) <= set(sizes) and len(set(acts)) == len(acts), "NOT_IN_BATCH")
        by_act: Counter[str] = Counter()
        for act in acts:
            by_act[sizes[act][0]] += sizes[act][1]
        left, pro_rata = sum(map(batch.mg, batch.acts)) - by_act.total(), 0
        for bps in shares_bps:
            pro_rata += up((left - pro_rata) * bps, BPS)
        demand(whole_tonnes(weigh(batch, by_act, pro_rata)), "BATCH_TOO_SMALL")
        self.mg[f"pool:{code}"] -= by_act.total() + pro_rata
        batch.stage, batch.verifier, batch.by_act, batch.pro_rata = "VERIFIED", by, by_act, pro_rata

    def issue(self, code: str, by: str) -> None:
        batch = self.batches[code]
        demand(batch.stage == "VERIFIED", "BATCH_STAGE")
        demand(by not in {batch.opener, batch.verifier}, "FOUR_EYES")
        lines = weigh(batch, batch.by_act, batch.pro_rata)
        issued = shared(whole_tonnes(lines), [line[3] for line in lines])
        for (citizen, left, off, _), got in zip(lines, issued, strict=True):
            pool, own = batch.split[citizen]
            mine = got * own // (pool + own)
            batch.parts[citizen] = batch.by_act[citizen] + off, left - off - got * GRAM_MG, got - mine, mine
        batch.stage = "ISSUING"

    def work_off(self, now: datetime) -> None:
        """The worker of batches."""
        for code, batch in sorted(self.batches.items()):
            if batch.stage == "GATHERING":
                self.gather(code, now)
            elif batch.stage == "CANCELLING":
                for citizen in sorted(batch.acts):
                    self.give_back(code, citizen, "RETURNED")
                batch.stage = "CANCELLED"
            elif batch.stage == "ISSUING":
                pool = sum(part[2] for part in batch.parts.values())
                own = [(part[3], f"citizen:{citizen}") for citizen, part in batch.parts.items()]
                stretches = [(length, owner) for length, owner in [(pool, f"pool:{code}"), *own] if length]
                self.registers[f"credit:{code}"] = Register(stretches)
                self.mg[f"pool:{code}"] -= sum(length for length, _ in stretches) * GRAM_MG
                batch.stage = "ISSUED"

    # Money out, and credits for ever

    def return_benefits(self, code: str, fen: int | None) -> None:
        """The pool's money, or all it has free, among contributors by the grams issued to the pool for them."""
        batch, free = self.batches[code], self.available(f"pool:{code}", "cny")
        demand(batch.stage == "ISSUED", "BATCH_STAGE")
        citizens = [citizen for citizen, part in sorted(batch.parts.items()) if part[2]]
        demand(citizens, "NO_SHARES")
        fen = max(free, 1) if fen is None else fen
        if fen > free:
            raise ValueError("INSUFFICIENT_FUNDS", fen, free)
        for citizen, part in zip(citizens, shared(fen, [batch.parts[one][2] for one in citizens]), strict=True):
            owner = f"citizen:{citizen}"
            self.fen[f"pool:{code}"] -= part
            if batch.choices[citizen] == "FEN":
                self.fen[owner] += part
                continue
            before, after = batch.converted[citizen], batch.converted[citizen] + part
            rate = self.settings.points_per_yuan
            self.points[owner] += after * rate // FEN - before * rate // FEN
            batch.converted[citizen] = after

    def pay_out(self, payout: str, owner: str, fen: int, now: datetime) -> None:
        under_way = [one for one in self.payouts.values() if one[0] == owner and one[2] in UNDER_WAY]
        demand(len(under_way) < MOST_PAYOUTS, "TOO_MANY_PAYOUTS")
        if self.available(owner, "cny") < fen:
            raise ValueError("INSUFFICIENT_FUNDS", fen, self.available(owner, "cny"))
        self.payouts[payout] = owner, fen, "REQUESTED", self.midnight(now, 31)

    def move_payout(self, payout: str, stage: str, now: datetime) -> None:
        owner, fen, before, ends = self.payouts[payout]
        allowed = {"PAID": {"SETTLING"}, "CANCELLED": {"REQUESTED"}}
        demand(before in allowed.get(stage, UNDER_WAY) and now < ends, "PAYOUT_STAGE")
        ends = self.midnight(now, 367) if (stage, before) == ("SETTLING", "REQUESTED") else ends
        self.payouts[payout] = owner, fen, stage, ends
        self.fen[owner] -= fen if stage == "PAID" else 0

    def end_payouts(self, now: datetime) -> None:
        for payout, (owner, fen, stage, ends) in self.payouts.items():
            if stage in UNDER_WAY and ends <= now:
                self.payouts[payout] = owner, fen, "LAPSED", ends

    def lapse(self, now: datetime) -> None:
        """The book's worker."""
        self.overdue = [one for one in self.overdue if one[3] > now]
        self.lapsed |= {one.id for one in self.orders.values() if one.is_open and one.hold_ends <= now}

    def retire(self, owner: str, credit: str, grams: int, certificate: str) -> list[Run]:
        demand(credit in self.registers, "UNKNOWN_CREDIT")
        if self.available(owner, credit) < grams:
            raise ValueError("INSUFFICIENT_CREDITS", grams, self.available(owner, credit))
        return self.registers[credit].move(grams, owner, f"retired:{certificate}")
