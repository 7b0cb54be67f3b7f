"""What goes wrong with statements is found, put right by a further statement, and leaves every file as it was."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.audit import audit_books
from backend.kernel.errors import InvalidInputError, Language
from backend.ledger.audit.findings import Audit
from backend.ledger.model import BANK, POINTS, Transaction, TransactionKind, account_of, merchant_owner
from backend.mongo.transactions import Transactions
from backend.rewards.merchants.errors import OwnApprovalError
from backend.rewards.settlement.documents import LISTED_AT_ONCE, listed_documents
from backend.rewards.settlement.errors import EarlierUnpaidError, NotReconciledError, StatementChangedError
from backend.rewards.settlement.exporting import Form, export
from backend.rewards.settlement.invariants import audit_settlement
from backend.rewards.settlement.model import NO_DIFFERENCE, StatementStage, Sums, statement_id
from tests.conftest import LEDGER_WATCH, dump
from tests.factories import account, earning, payout, posting, replay, settlement
from tests.integration.selling import (
    BEGIN,
    DAY,
    HOUR,
    MAKER,
    REST,
    TEA,
    WEEK_END,
    Market,
    give_back,
    move_to,
    open_market,
    register,
    sell,
)
from tests.unit.rewards.settled import statement

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from backend.ledger.model import Asset
    from backend.rewards.settlement.model import DetailedLine, Statement
    from backend.rewards.vouchers.model import Voucher
    from backend.runtime import Services

READY = StatementStage.READY
APPROVED = StatementStage.APPROVED
PAID = StatementStage.PAID
UNRECONCILED = StatementStage.UNRECONCILED
FIRST, SECOND, THIRD = (statement_id(TEA, number) for number in (1, 2, 3))


@pytest.fixture
async def market(services: Services) -> Market:
    """A market at the beginning of a week, with one merchant."""
    market = await open_market(services)
    await register(services)
    return market


async def stages(market: Market) -> list[StatementStage]:
    return [one.stage for one in await market.statements()]


async def settle_all(market: Market) -> None:
    """Approve and pay whatever there is, in its order."""
    for one in await market.statements():
        if one.stage is READY:
            await market.approve(one.id, f"approve-all-{one.number}")
    for one in await market.statements():
        if one.stage is APPROVED:
            await market.pay(one.id, f"pay-all-{one.number}")
    assert set(await stages(market)) == {PAID}
    assert {"merchant:tea:cny", "merchant:tea:points"} & set(await market.balances()) == set()
    assert (await market.balances())[BANK] == sum(one.payable_fen for one in await market.statements())
    assert (await replay(market.services)).findings == []


async def transactions_of(market: Market, one: Statement) -> list[str]:
    """What the statement lists, page by page and in its file alike, as many as it says, worth what it says."""
    lines: list[DetailedLine] = []
    after = None
    while page := await market.settlement.list_lines(one, limit=2, after=after):
        lines += page
        after = (page[-1].line.at, page[-1].line.transaction)
    assert [line async for batch in market.settlement.stream_lines(one) for line in batch] == lines
    assert (len(lines), sum(line.line.fen for line in lines)) == (one.lines, one.totals.gross_fen)
    for form in Form:
        with (await export(market.settlement, one, form, Language.EN)).file as file:
            assert file.read(1)
    return [line.line.transaction for line in lines]


def captured(*vouchers: Voucher) -> list[str]:
    return [capture.transaction for voucher in vouchers for capture in voucher.captures]


class LateBook:
    """The book, into whose first period something is written while it is summed."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.late: list[Voucher] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._services.ledger, name)

    async def merchant_balance(self, merchant: str, asset: Asset, *, until: Any) -> int:
        """The balance with what came late."""
        if not self.late:
            self.late.append(await sell(self._services, TEA, 100, 77, at=WEEK_END - HOUR))
        return await self._services.ledger.merchant_balance(merchant, asset, until=until)


async def test_a_line_between_adding_up_and_comparing_is_corrected_and_everything_paid(market: Market) -> None:
    services, book = market.services, LateBook(market.services)
    early = await sell(services, TEA, 1_000, 700, at=BEGIN)
    move_to(services, WEEK_END + REST)
    await market.settling(ledger=book).close_due()
    await sell(services, TEA, 10, 7, at=WEEK_END + HOUR)
    await market.close_at(WEEK_END + 7 * DAY + REST)
    assert await stages(market) == [UNRECONCILED, UNRECONCILED]

    made = await market.settlement.correct(MAKER, FIRST, 0, "补记漏单", key="correct-1")
    assert (made.number, made.stage, made.totals.captures) == (3, READY, Sums(1, 100, 77))
    # The vouchers know what the book knows: there is nothing to explain.
    assert made.explained == NO_DIFFERENCE
    assert await market.settlement.close_due() == 0
    assert await stages(market) == [READY, READY, READY]
    await settle_all(market)
    first, _, third = await market.statements()
    assert await transactions_of(market, first) == captured(early)
    assert await transactions_of(market, third) == captured(*book.late)


async def test_a_difference_of_vouchers_is_explained_by_a_correction_that_two_people_see(market: Market) -> None:
    services = market.services
    tea = await sell(services, TEA, 1_000, 700, at=BEGIN)
    await services.database.raw["vouchers"].update_one({"_id": tea.id}, {"$set": {"captures.0.fen": Int64(701)}})
    await market.close_at(WEEK_END + REST)
    await sell(services, TEA, 10, 7, at=WEEK_END + HOUR)
    await market.close_at(WEEK_END + 7 * DAY + REST)
    assert await stages(market) == [UNRECONCILED, READY]
    await market.approve(SECOND, "approve-2")
    await market.refused(EarlierUnpaidError, market.pay(SECOND, "pay-0002"))

    made = await market.settlement.correct(MAKER, FIRST, 1, "券面多记一分", key="correct-1")
    assert (made.number, made.stage, made.adjustment_fen, made.totals.is_nothing) == (3, READY, 1, True)
    assert (made.explained.captures, made.explained.refunds) == (Sums(0, 0, 1), Sums())
    await market.settlement.close_due()
    assert await stages(market) == [READY, APPROVED, READY]
    for one in (FIRST, THIRD):
        await market.refused(OwnApprovalError, market.settlement.approve(MAKER, one, key="approve-own"))
    # What differs besides is not explained by it.
    await services.database.raw["vouchers"].update_one({"_id": tea.id}, {"$set": {"captures.0.fen": Int64(703)}})
    with pytest.raises(NotReconciledError) as refused:
        await market.approve(FIRST)
    assert (refused.value.points, refused.value.fen, refused.value.voucher_fen) == (0, 0, 2)
    again = await market.settlement.correct(MAKER, FIRST, 0, "还有两分", key="correct-2")
    assert again.explained.captures == Sums(0, 0, 2)
    await market.settlement.close_due()
    await settle_all(market)
    assert (await market.balances())[BANK] == 686 + 1 + 7


async def test_money_that_no_statement_moved_cannot_be_explained(market: Market) -> None:
    services = market.services
    await sell(services, TEA, 1_000, 700, at=BEGIN)
    await services.ledger.post(settlement(merchant="tea"))
    await market.close_at(WEEK_END + REST)
    assert await stages(market) == [UNRECONCILED]
    error = await market.refused(NotReconciledError, market.settlement.correct(MAKER, FIRST, 5, "x", key="correct-1"))
    assert error.fen != 0


async def test_approving_compares_once_more(market: Market) -> None:
    services = market.services
    tea = await sell(services, TEA, 1_000, 700, at=BEGIN)
    await market.close_at(WEEK_END + REST)
    await sell(services, TEA, 10, 7, at=BEGIN + DAY)
    book = (await dump(services))["ledger_transactions"]
    for _ in range(2):
        with pytest.raises(NotReconciledError) as refused:
            await market.approve(FIRST)
        assert (refused.value.points, refused.value.voucher_points, refused.value.voucher_fen) == (10, 10, 7)
        assert await stages(market) == [UNRECONCILED]
    assert (await dump(services))["ledger_transactions"] == book
    await market.settlement.correct(MAKER, FIRST, 0, "补记漏单", key="correct-1")
    await market.settlement.close_due()
    # The key that was refused has not been used up.
    assert (await market.approve(FIRST)).stage is APPROVED
    assert await transactions_of(market, (await market.statements())[0]) == captured(tea)


async def test_files_of_statement_and_corrections_hold_for_ever(market: Market) -> None:
    services = market.services
    kept = [await sell(services, TEA, 100, 70, at=BEGIN + number * HOUR) for number in range(3)]
    await market.close_at(WEEK_END + REST)
    await settle_all(market)
    [first] = await market.statements()
    late = await sell(services, TEA, 10, 7, at=BEGIN + HOUR)
    with pytest.raises(StatementChangedError):
        await export(market.settlement, first, Form.CSV, Language.EN)
    await market.settlement.correct(MAKER, FIRST, 0, "补记", key="correct-1")
    later = [await sell(services, TEA, 20 + number, 9, at=BEGIN) for number in range(3)]
    await give_back(services, later[0], 5, 2, at=BEGIN + 2 * DAY)
    # A correction of a correction is one of the same period.
    await market.settlement.correct(MAKER, SECOND, -3, "再补", key="correct-2")
    await market.settlement.correct(MAKER, FIRST, 4, "调整", key="correct-3")

    first, second, third, fourth = await market.statements()
    assert await transactions_of(market, first) == captured(*kept)
    assert await transactions_of(market, second) == captured(late)
    assert sorted((await transactions_of(market, third))[:3]) == sorted(captured(*later))
    assert (third.lines, third.totals.captures, third.totals.refunds) == (4, Sums(3, 63, 27), Sums(1, 5, 2))
    assert await transactions_of(market, fourth) == []
    await market.refused(InvalidInputError, market.settlement.correct(MAKER, FIRST, 0, "没有", key="correct-4"))


async def test_nothing_is_made_of_a_quiet_period_however_much_is_owed(market: Market) -> None:
    services = market.services
    tea = await sell(services, TEA, 1_000, 700, at=BEGIN)
    await market.close_at(WEEK_END + REST)
    await give_back(services, tea, at=WEEK_END + DAY)
    assert await market.close_at(WEEK_END + 35 * DAY + REST) == 1
    assert [one.carried_forward_fen for one in await market.statements()] == [0, -686]
    [settled] = (await dump(services))["settlement_accounts"]
    assert (settled["settled_until"], settled["number"], settled["carried_fen"]) == (WEEK_END + 35 * DAY, 2, -686)


class BrokenBook:
    """The book, without one merchant's lines."""

    def __init__(self, services: Services, broken: str) -> None:
        self._services, self._broken = services, broken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._services.ledger, name)

    def stream_merchant(self, merchant: str, **span: Any) -> AsyncGenerator[Any, None]:
        """The lines of any other."""
        if merchant == self._broken:
            raise ConnectionError
        return self._services.ledger.stream_merchant(merchant, **span)

    async def merchant_balance(self, merchant: str, asset: Asset, *, until: Any) -> int:
        """The balance of any other."""
        if merchant == self._broken:
            raise ConnectionError
        return await self._services.ledger.merchant_balance(merchant, asset, until=until)


@pytest.mark.parametrize("broken", ["aaa", "zzz"])
async def test_one_merchants_trouble_does_not_keep_others_unreconciled(market: Market, broken: str) -> None:
    services, raw = market.services, market.services.database.raw["vouchers"]
    for name in (TEA, await register(services, broken)):
        sold = await sell(services, name, at=BEGIN)
        await raw.update_one({"_id": sold.id}, {"$set": {"captures.0.fen": Int64(71)}})
    await market.close_at(WEEK_END + REST)
    assert await stages(market) == [UNRECONCILED]
    await raw.update_many({}, {"$set": {"captures.0.fen": Int64(70)}})
    move_to(services, WEEK_END + 7 * DAY + REST)
    with pytest.raises(ConnectionError):
        await market.settling(ledger=BrokenBook(services, broken)).close_due()
    assert await stages(market) == [READY]


def test_ids_of_many_lines_are_kept_by_thousands() -> None:
    ids: list[Any] = [f"tx_{number}" for number in range(2 * LISTED_AT_ONCE + 1)]
    documents = listed_documents(statement(), ids)
    assert list(itertools.chain.from_iterable(one["ids"] for one in documents)) == ids
    assert [len(one["ids"]) for one in documents] == [LISTED_AT_ONCE, LISTED_AT_ONCE, 1]
    assert len({one["_id"] for one in documents}) == 3


@pytest.fixture
async def settled(market: Market) -> AsyncGenerator[Market, None]:
    """One statement paid, one approved, one ready; the audit of statements has nothing to say."""
    for week in range(3):
        await sell(market.services, TEA, 1_000, 700, at=BEGIN + week * 7 * DAY)
    await market.close_at(BEGIN + 21 * DAY + REST)
    await market.approve(FIRST)
    await market.approve(SECOND, "approve-2")
    await market.pay(FIRST)
    assert await findings(market) == []
    yield market
    # The falsifications went past the ledger on purpose.
    LEDGER_WATCH.strays.clear()


async def findings(market: Market) -> list[str]:
    """What the audit of statements says."""
    audit = Audit()
    async with market.services.database.snapshot() as snapshot:
        await audit_settlement(snapshot, audit)
    return audit.findings


async def test_whatever_moves_in_a_merchants_account_without_naming_them_is_found(settled: Market) -> None:
    services = settled.services
    shop = account_of(merchant_owner(TEA), POINTS)
    stray = Transaction(
        key="stray-1", kind=TransactionKind.TRANSFER, postings=(posting(account("eve"), shop, 77),), cause={}
    )
    other = Transaction(
        key="stray-2",
        kind=TransactionKind.TRANSFER,
        postings=(posting(account("eve"), shop, 7),),
        cause={"merchant": "other"},
    )
    await Transactions(services.database).run(
        lambda tx: services.ledger.post_within(
            tx, [earning("earn-eve", "eve", 100), stray, other], at=services.clock.now()
        )
    )
    said = "moves what is merchant:tea's and does not name them"
    found = await findings(settled)
    assert set(found) == {f"transaction {stray.id}: {said}", f"transaction {other.id}: {said}"}
    # These earn points for nothing, of which the whole audit tells, too.
    assert set(found) < set((await audit_books(services)).findings)


async def test_settlements_of_no_statement_are_found(settled: Market) -> None:
    forged = [settlement("forged-1", merchant="tea"), payout("forged-2", merchant="tea")]
    for transaction in forged:
        await settled.services.ledger.post(transaction)
    found = await findings(settled)
    assert {f"transaction {one.id}: is of no statement approved or paid" for one in forged} == set(found)


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [
        (1, {"stage": "APPROVED"}, "is of no statement approved or paid"),
        (2, {"stage": "READY"}, "is of no statement approved or paid"),
        (2, {"adjustment_fen": Int64(1)}, "is not what its statement says"),
        (2, {"approved_at": BEGIN}, "is not what its statement says"),
        (3, {"stage": "APPROVED", "approved_at": BEGIN}, "is told by a statement and not in the book"),
        (2, {"stage": "PAID", "paid_at": BEGIN}, "is told by a statement and not in the book"),
    ],
)
async def test_statements_that_the_book_does_not_bear_out_are_found(
    settled: Market, number: int, change: dict[str, Any], said: str
) -> None:
    raw = settled.services.database.raw["settlement_statements"]
    await raw.update_one({"_id": statement_id(TEA, number)}, {"$set": change})
    assert [one for one in await findings(settled) if one.endswith(said)] != []
