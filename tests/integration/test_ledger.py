"""The book on a real server: one key one effect, two sides of a transfer, statements page by page."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from backend.kernel.errors import IdempotencyConflictError
from backend.kernel.ids import CitizenId
from backend.ledger.errors import InsufficientFundsError, MalformedTransactionError
from backend.ledger.model import (
    POINTS,
    PROGRAMME,
    QUANTIFIED,
    AccountId,
    Line,
    Lot,
    OwnerId,
    TransactionKind,
    account_of,
    citizen_owner,
)
from tests.conftest import dump
from tests.factories import (
    adjustment,
    capture,
    earning,
    holding,
    replay,
    restatement,
    reversal,
    settlement,
    spending,
    transfer,
)

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.ledger.model import StatementLine
    from backend.mongo.transactions import Tx
    from backend.runtime import Services

ALICE, BOB = citizen_owner(CitizenId("alice")), citizen_owner(CitizenId("bob"))
ALICES = account_of(ALICE, POINTS)


def figures(lines: list[StatementLine]) -> list[tuple[int, int, int]]:
    return [(line.sequence, line.line.change, line.line.balance) for line in lines]


def line_document(change: int, balance: int) -> dict[str, Any]:
    """A line about points that came from the lot of the month they were earned in."""
    ends = local_midnight(2028, 12, 1)
    lots = [{"expires_at": ends, "amount": change}]
    return {"asset": "points", "change": change, "balance": balance, "held": 0, "debt": 0, "lots": lots}


def local_midnight(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=ZoneInfo("Asia/Shanghai")).astimezone(UTC)


async def test_a_transaction_posted_again_changes_nothing(services: Services) -> None:
    first = await services.ledger.post(earning())
    before = await dump(services)
    assert await services.ledger.post(earning()) == first
    assert await dump(services) == before
    assert (await services.ledger.get_page(ALICE)).balance(POINTS) == 100


async def test_the_same_key_with_another_payload_is_a_conflict_and_changes_nothing(services: Services) -> None:
    await services.ledger.post(earning())
    before = await dump(services)
    for other in (earning(amount=101), earning(name="bob"), earning(asset=QUANTIFIED)):
        with pytest.raises(IdempotencyConflictError) as caught:
            await services.ledger.post(other)
        assert caught.value.key == "earn-1"
    assert await dump(services) == before


async def test_a_hundred_posts_of_one_key_have_one_effect(services: Services) -> None:
    ids = await asyncio.gather(*(services.ledger.post(earning()) for _ in range(100)))
    assert len(set(ids)) == 1
    assert (await services.ledger.get_page(ALICE)).version == 1
    assert len((await dump(services))["ledger_transactions"]) == 1


async def test_a_transfer_stands_on_both_pages(services: Services, clock: ManualClock) -> None:
    clock.current = datetime(2026, 11, 30, 15, 59, 59, tzinfo=UTC)  # the month's last second in Zhenjiang
    await services.ledger.post(earning())
    moved = await services.ledger.post(transfer(amount=30))
    home, copy = [document for document in (await dump(services))["ledger_transactions"] if document["key"] == "pay-1"]
    assert (home["_id"], home["owner"], home["copy_of"], home["sequence"]) == (moved, ALICE, None, 2)
    assert (copy["_id"], copy["owner"], copy["copy_of"], copy["sequence"]) == (f"{moved}@{BOB}", BOB, moved, 1)
    assert home["postings"] == copy["postings"]
    assert home["payload"] == copy["payload"]
    assert home["at"] == copy["at"] == clock.now()
    assert home["opens"] == copy["opens"]
    assert home["lines"] == [line_document(-30, 70)]
    assert copy["lines"] == [line_document(30, 30)]
    [line] = await services.ledger.list_statement(account_of(BOB, POINTS), limit=5)
    assert (line.transaction, line.kind, line.line) == (
        moved,
        TransactionKind.TRANSFER,
        Line(POINTS, 30, 30, lots=(Lot(copy["lines"][0]["lots"][0]["expires_at"], 30),)),
    )


async def test_an_overdraft_is_refused_with_its_figures_and_changes_nothing(services: Services) -> None:
    await services.ledger.post(earning(amount=9))
    before = await dump(services)
    with pytest.raises(InsufficientFundsError) as caught:
        await services.ledger.post(transfer(amount=10))
    assert (caught.value.account, caught.value.needed, caught.value.available) == (ALICES, 10, 9)
    with pytest.raises(InsufficientFundsError):
        await services.ledger.post(transfer(key="pay-2", payer="nobody"))
    assert await dump(services) == before
    # The key is still free: nothing of the refusal stuck to it.
    await services.ledger.post(earning(key="earn-2"))
    await services.ledger.post(transfer(amount=10))


async def test_a_malformed_transaction_reaches_no_server(services: Services) -> None:
    before = await dump(services)
    with pytest.raises(MalformedTransactionError):
        await services.ledger.post(earning(amount=0))
    assert await dump(services) == before


async def test_several_transactions_of_one_call_build_on_each_other(services: Services, clock: ManualClock) -> None:
    batch = [earning(amount=10), transfer(amount=10), transfer(key="pay-2", payer="bob", payee="carol", amount=4)]

    async def body(tx: Tx) -> None:
        await services.ledger.post_within(tx, [*batch, batch[0]], at=clock.now())

    await services.settling._transactions.run(body)
    await services.settling._transactions.run(body)
    balances = [
        (await services.ledger.get_page(citizen_owner(CitizenId(name)))).balance(POINTS)
        for name in ("alice", "bob", "carol")
    ]
    assert balances == [0, 6, 4]
    assert (await services.ledger.get_page(BOB)).version == 2


async def test_one_refusal_in_a_call_undoes_all_of_it(services: Services, clock: ManualClock) -> None:
    before = await dump(services)

    async def body(tx: Tx) -> None:
        await services.ledger.post_within(tx, [earning(amount=10), transfer(amount=11)], at=clock.now())

    with pytest.raises(InsufficientFundsError):
        await services.settling._transactions.run(body)
    assert await dump(services) == before


async def test_a_statement_is_read_page_by_page_in_both_directions(services: Services) -> None:
    for number in range(1, 8):
        await services.ledger.post(earning(key=f"earn-{number}", amount=number))
        if number == 4:
            await services.ledger.post(earning(key="other asset", asset=QUANTIFIED))
    everything = figures(await services.ledger.list_statement(ALICES, limit=50))
    # Sequence 5 is of the other asset.
    assert everything == [(8, 7, 28), (7, 6, 21), (6, 5, 15), (4, 4, 10), (3, 3, 6), (2, 2, 3), (1, 1, 1)]
    paged = []
    older_than = None
    while page := await services.ledger.list_statement(ALICES, limit=3, older_than=older_than):
        paged += figures(page)
        older_than = page[-1].sequence
    assert paged == everything
    oldest = await services.ledger.list_statement(ALICES, limit=3, newer_than=0, newest=False)
    assert figures(oldest) == everything[-3:]
    between = await services.ledger.list_statement(ALICES, limit=9, newer_than=2, older_than=7)
    assert [line.sequence for line in between] == [6, 4, 3]
    assert await services.ledger.list_statement(account_of(BOB, POINTS), limit=5) == []


async def test_only_guarded_owners_have_a_page(services: Services) -> None:
    for owner in (PROGRAMME, OwnerId("merchant:shop")):
        with pytest.raises(ValueError, match="no page is kept for"):
            await services.ledger.get_page(owner)
    empty = await services.ledger.get_page(ALICE)
    assert (empty.version, dict(empty.balances)) == (0, {})
    with pytest.raises(ValueError, match="no account can be called"):
        await services.ledger.list_statement(AccountId("alice"), limit=1)


async def test_amounts_between_merchants_and_programme_touch_no_page(services: Services) -> None:
    await services.ledger.post(settlement(points=-5, fen=-45, commission=0))
    dumped = await dump(services)
    assert dumped["ledger_pages"] == []
    [document] = dumped["ledger_transactions"]
    assert (document["owner"], document["sequence"], document["lines"]) == ("programme", None, [])


async def test_a_hold_moves_what_it_reserved_and_frees_the_rest(services: Services, clock: ManualClock) -> None:
    await services.ledger.post(earning())
    hold = holding(amount=30, until=clock.now() + timedelta(minutes=5))
    await services.ledger.post(hold)
    held = await services.ledger.get_page(ALICE)
    assert (held.balance(POINTS), held.held(POINTS), held.available(POINTS, clock.now())) == (100, 30, 70)
    # Asked again a minute later, its end would be another: that is no other payload.
    await services.ledger.post(holding(amount=30, until=clock.now() + timedelta(minutes=6)))
    assert await services.ledger.get_page(ALICE) == held
    await services.ledger.post(capture(hold, "post-1", 10, final=False))
    await services.ledger.post(capture(hold, "post-2", 12))
    ended = await services.ledger.get_page(ALICE)
    assert (ended.balance(POINTS), ended.holds, ended.available(POINTS, clock.now())) == (78, (), 78)
    assert figures(await services.ledger.list_statement(ALICES, limit=9)) == [
        (4, -12, 78),
        (3, -10, 90),
        (2, 0, 100),
        (1, 100, 100),
    ]


async def test_a_refund_returns_to_the_lots_it_was_spent_from(services: Services, clock: ManualClock) -> None:
    await services.ledger.post(earning("old", amount=30))
    clock.advance(timedelta(days=62))
    await services.ledger.post(earning("new", amount=30))
    before = (await services.ledger.get_page(ALICE)).lots
    assert [lot.amount for lot in before] == [30, 30]
    spent = spending(amount=40)
    await services.ledger.post(spent)
    assert (await services.ledger.get_page(ALICE)).lots == (Lot(before[1].expires_at, 20),)
    # In part: what would have ended last comes back first.
    await services.ledger.post(reversal(spent, "back-1", (15,)))
    assert (await services.ledger.get_page(ALICE)).lots == (Lot(before[0].expires_at, 5), before[1])
    await services.ledger.post(reversal(spent, "back-2", (25,)))
    assert (await services.ledger.get_page(ALICE)).lots == before


async def test_a_shortfall_is_lent_and_the_next_earning_repays_it_first(services: Services) -> None:
    mistaken = earning(amount=50)
    await services.ledger.post(mistaken)
    await services.ledger.post(spending(amount=40))
    await services.ledger.post(reversal(mistaken))
    owing = await services.ledger.get_page(ALICE)
    assert (owing.balance(POINTS), owing.debt(POINTS), owing.lots) == (0, 40, ())
    await services.ledger.post(earning("earn-2", amount=15))
    await services.ledger.post(adjustment(35))
    free = await services.ledger.get_page(ALICE)
    assert (free.balance(POINTS), free.debt(POINTS)) == (10, 0)
    kinds = [line.kind.value for line in await services.ledger.list_statement(ALICES, limit=20, newer_than=0)]
    assert kinds[::-1] == ["EARN", "TRANSFER", "LEND", "REVERSE", "EARN", "REPAY", "ADJUST", "REPAY"]
    assert (await replay(services)).findings == []


async def test_a_restatement_goes_either_way(services: Services) -> None:
    earned = earning(amount=50)
    await services.ledger.post(earned)
    await services.ledger.post(restatement(earned, 20, "more"))
    await services.ledger.post(restatement(earned, -65, "less"))
    page = await services.ledger.get_page(ALICE)
    assert (page.balance(POINTS), page.debt(POINTS)) == (5, 0)
    await services.ledger.post(reversal(earned, amounts=(5,)))
    assert (await services.ledger.get_page(ALICE)).balance(POINTS) == 0


async def test_time_never_goes_back_along_a_sequence(services: Services, clock: ManualClock) -> None:
    await services.ledger.post(earning())
    latest = clock.now()
    clock.advance(timedelta(minutes=-5))  # another server's clock
    await services.ledger.post(spending())
    await services.ledger.post(transfer())
    lines = await services.ledger.list_statement(ALICES, limit=9)
    assert [line.at for line in lines] == [latest] * 3
    assert [line.at for line in await services.ledger.list_statement(account_of(BOB, POINTS), limit=9)] == [latest]


async def test_of_two_reversals_at_once_one_is_too_much(services: Services) -> None:
    spent = spending()
    await services.ledger.post(earning())
    await services.ledger.post(spent)
    backs = [reversal(spent, f"back-{number}") for number in range(8)]
    answers = await asyncio.gather(*map(services.ledger.post, backs), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["OverCorrectedError"] * 7 + ["str"]
    assert (await services.ledger.get_page(ALICE)).balance(POINTS) == 100


async def test_callers_who_come_together_are_answered_each_for_himself(services: Services) -> None:
    crowd = [earning(), spending("pay-1", amount=60), spending("pay-2", amount=60), transfer("pay-3", amount=40)]
    answers = await asyncio.gather(*map(services.ledger.post, crowd), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, str)] == [crowd[0].id, crowd[1].id, crowd[3].id]
    assert isinstance(answers[2], InsufficientFundsError)
    assert (answers[2].needed, answers[2].available) == (60, 40)
    assert len((await dump(services))["ledger_unsealed"]) == 1  # one MongoDB transaction for all of them
