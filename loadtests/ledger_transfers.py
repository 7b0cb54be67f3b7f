"""Transfers under load: between different accounts beside Medici, from one hot account, to one merchant."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from typing import TYPE_CHECKING

from backend.ledger.model import POINTS, OwnerId
from loadtests.ledger_book import ROUNDS, Outcomes, call_repeatedly, earn, fund, median, owner, post_batch, rate_per_s
from loadtests.ledger_book import transfer as one_point
from loadtests.report import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backend.ledger.service import Ledger
    from backend.runtime import Services
    from loadtests.ledger_medici import Medici

ACCOUNTS = 4_000
FUNDS = 1_000
AT_ONCE = 32
TRANSFERS = 2_000
MEDICI_TRANSFERS = 1_000
ALONE = 150
SPENDS = 1_000
OVERDRAWN = 64
MERCHANTS = 32
EARNINGS_FROM = 10_000_000  # numbers of earnings that no other part uses
NOT_MEASURED = "not measured"
_KEYS = itertools.count()


def _traveller(number: int) -> OwnerId:
    return owner(f"traveller-{number % ACCOUNTS}")


def _neighbour(number: int) -> OwnerId:
    return _traveller(2 * number + 1)


def _merchant(number: int) -> OwnerId:
    return OwnerId(f"merchant:bench-{number}")


async def open_accounts(services: Services) -> None:
    """Give every traveller points to move."""
    await fund(services, map(_traveller, range(ACCOUNTS)), EARNINGS_FROM, points=FUNDS)


async def _transfer_rate(
    ledgers: Sequence[Ledger], count: int, payee: Callable[[int], OwnerId], *, at_once: int = AT_ONCE
) -> tuple[float, Outcomes]:
    """Transfers of one point per second from travellers who each pay once in 2,000 calls; all of them must succeed."""
    outcomes = Outcomes()
    first = next(_KEYS) * 1_000_000

    async def call(number: int) -> None:
        move = one_point(f"bench:move:{first + number}", _traveller(2 * number), payee(number))
        await call_repeatedly(ledgers[number % len(ledgers)], move, outcomes)

    rate = await rate_per_s(count, call, at_once=at_once)
    if outcomes.posted != count:
        raise AssertionError(f"{outcomes.refused} of {count} funded transfers were refused")
    return rate, outcomes


async def measure_transfers(services: Services, medici: Medici | None) -> dict[str, Figure]:
    """Guarded transfers between different accounts, the book and Medici in turn."""
    ours: list[float] = []
    alone: list[float] = []
    slowest: list[float] = []
    theirs: dict[int, list[float]] = {1: [], 16: [], AT_ONCE: []}
    for number in range(-1, ROUNDS):  # the first round only warms both sides
        rate, outcomes = await _transfer_rate([services.ledger], TRANSFERS, _neighbour)
        single, _ = await _transfer_rate([services.ledger], ALONE, _neighbour, at_once=1)
        found = {}
        if medici:
            found = {
                at_once: await asyncio.to_thread(medici.rate_per_s, transfers, at_once=at_once)
                for at_once, transfers in ((1, ALONE), (16, MEDICI_TRANSFERS), (AT_ONCE, MEDICI_TRANSFERS))
            }
        if number < 0:
            continue
        ours.append(rate)
        alone.append(single)
        slowest.append(sorted(outcomes.latencies_ms)[TRANSFERS * 95 // 100])
        for at_once, value in found.items():
            theirs[at_once].append(value)
    return {
        "transfers_32": Figure(median(ours), "transfers/s"),
        "transfers_32_p95": Figure(median(slowest), "ms"),
        "transfers_1": Figure(median(alone), "transfers/s"),
        "medici_32": _or_not_measured(theirs[AT_ONCE], "transfers/s"),
        "medici_16": _or_not_measured(theirs[16], "transfers/s"),
        "medici_1": _or_not_measured(theirs[1], "transfers/s"),
        "transfers_32_of_medici_32": _ratio(ours, theirs[AT_ONCE], goal=2.0),
        "transfers_1_of_medici_1": _ratio(alone, theirs[1], goal=None),
    }


def _or_not_measured(rates: Sequence[float], unit: str) -> Figure:
    return Figure(median(rates), unit) if rates else Figure(NOT_MEASURED, unit)


def _ratio(ours: Sequence[float], theirs: Sequence[float], *, goal: float | None) -> Figure:
    """The median of each round's ratio; without an opponent there is no goal either."""
    if not theirs:
        return Figure(NOT_MEASURED, "×")
    pairs = zip(ours, theirs, strict=True)
    return Figure(round(statistics.median(mine / other for mine, other in pairs), 2), "×", goal)


async def _spend_dry(ledgers: Sequence[Ledger], services: Services, name: str) -> tuple[float, Outcomes]:
    """Spends per second of 32 callers who ask one account for 64 points more than it has."""
    spender, outcomes = owner(name), Outcomes()
    funding = earn(EARNINGS_FROM * 2 + next(_KEYS), spender, points=SPENDS)
    await post_batch(services, [funding], services.clock.now())

    async def call(number: int) -> None:
        ledger = ledgers[number % len(ledgers)]
        await call_repeatedly(ledger, one_point(f"bench:{name}:{number}", spender, _merchant(0)), outcomes)

    rate = await rate_per_s(SPENDS + OVERDRAWN, call, at_once=AT_ONCE)
    left = (await services.ledger.get_page(spender)).balance(POINTS)
    if (outcomes.posted, outcomes.refused, left) != (SPENDS, OVERDRAWN, 0):
        raise AssertionError(f"{name}: {outcomes.posted} spent, {outcomes.refused} refused, {left} left")
    return rate * SPENDS / (SPENDS + OVERDRAWN), outcomes


async def measure_hot_account(services: Services, second: Services) -> dict[str, Figure]:
    """One guarded account spent to exactly zero, by one process's callers and by those of two."""
    one, two, busy = [], [], 0
    for number in range(ROUNDS):
        rate, _ = await _spend_dry([services.ledger], services, f"hot-{number}")
        one.append(rate)
        rate, outcomes = await _spend_dry([services.ledger, second.ledger], services, f"hot-shared-{number}")
        two.append(rate)
        busy += outcomes.busy
    return {
        "hot_account": Figure(median(one), "spends/s", 300),
        "hot_account_two_services": Figure(median(two), "spends/s", 300),
        "hot_account_busy_answers": Figure(busy, f"of {ROUNDS * SPENDS:,}"),
        # _spend_dry has ended the run otherwise
        "hot_account_false_refusals": Figure("none", f"of {2 * ROUNDS * SPENDS:,}", "none"),
    }


async def measure_one_merchant(services: Services, second: Services) -> dict[str, Figure]:
    """Everybody pays one merchant, and as many payers pay different merchants; the callers of two processes."""
    one, many, ledgers = [], [], (services.ledger, second.ledger)
    for _ in range(ROUNDS):
        rate, _ = await _transfer_rate(ledgers, TRANSFERS, lambda _number: _merchant(1))
        one.append(rate)
        rate, _ = await _transfer_rate(ledgers, TRANSFERS, lambda number: _merchant(2 + number % MERCHANTS))
        many.append(rate)
    share = median(mine * 100 / other for mine, other in zip(one, many, strict=True))
    return {
        "one_merchant": Figure(median(one), "payments/s"),
        "many_merchants": Figure(median(many), "payments/s"),
        "one_merchant_of_many": Figure(share, "%", 90),
    }
