"""Every refusal of the book on a real server, with its figures; none of them changes a document."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backend.kernel.errors import IdempotencyConflictError, Refusal
from backend.kernel.ids import TransactionId
from backend.ledger.errors import (
    HoldExceededError,
    HoldExpiredError,
    HoldNotActiveError,
    InsufficientFundsError,
    MalformedTransactionError,
    NotCorrectableError,
    OverCorrectedError,
    TooManyHoldsError,
)
from backend.ledger.lots import PointsPolicy
from backend.ledger.model import POINTS, HoldRef, Transaction, TransactionKind, debt_of
from backend.ledger.model import QUANTIFIED as GRAMS
from backend.ledger.service import Ledger
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.factories import (
    account,
    adjustment,
    capture,
    earning,
    holding,
    owner,
    paying,
    posting,
    release,
    restatement,
    reversal,
    shop,
    spending,
    transfer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services

MAX_HOLDS = 200
NEVER_MIND = datetime(2099, 1, 1, tzinfo=UTC)  # a hold's end is no part of its id


@dataclass
class Scene:
    """Alice earned 100, spent 10, got 4 back; 10 were posted from a hold, 30 are held, and 5 in a hold that is over."""

    earned: Transaction
    spent: Transaction
    hold: Transaction
    late: Transaction
    posted: Transaction
    post: Transaction
    back: Transaction
    clock: ManualClock

    def until(self, minutes: int) -> datetime:
        return self.clock.now() + timedelta(minutes=minutes)


@pytest.fixture
async def scene(services: Services, clock: ManualClock) -> Scene:
    until = clock.now() + timedelta(hours=1)
    hold, posted = holding("hold", amount=30, until=until), holding("posted", amount=10, until=until)
    late = holding("late", amount=5, until=clock.now() + timedelta(minutes=1))
    spent = spending("spent", amount=10)
    played = Scene(
        earned=earning("earned"),
        spent=spent,
        hold=hold,
        late=late,
        posted=posted,
        post=capture(posted, "post"),
        back=reversal(spent, "back", (4,)),
        clock=clock,
    )
    for transaction in (played.earned, spent, hold, late, posted, played.post, played.back):
        await services.ledger.post(transaction)
    clock.advance(timedelta(minutes=1))
    return played


def available(needed: int, *, there: int = 49) -> InsufficientFundsError:
    return InsufficientFundsError(account(), needed, there)


# What is asked, and the refusal it meets.
REFUSALS: dict[str, tuple[Callable[[Scene], Transaction], Callable[[Scene], Refusal]]] = {
    "spending more than is free": (lambda _: spending(amount=50), lambda _: available(50)),
    "giving more than is free": (lambda _: transfer(amount=90), lambda _: available(90)),
    "spending what another asset has": (
        lambda _: paying("pay", account(asset=GRAMS), shop(asset=GRAMS), 1),
        lambda _: InsufficientFundsError(account(asset=GRAMS), 1, 0),
    ),
    "spending twice in one transaction": (
        lambda _: Transaction(
            key="twice",
            kind=TransactionKind.TRANSFER,
            postings=(posting(account(), shop(), 40), posting(account(), shop("other"), 10)),
        ),
        lambda _: available(10, there=9),
    ),
    "spending before it is received": (
        lambda _: Transaction(
            key="order",
            kind=TransactionKind.TRANSFER,
            postings=(posting(account("bob"), shop(), 1), posting(account(), account("bob"), 1)),
        ),
        lambda _: InsufficientFundsError(account("bob"), 1, 0),
    ),
    "holding more than is free": (lambda s: holding("more", amount=50, until=s.until(9)), lambda _: available(50)),
    "holding until now": (
        lambda s: holding("now", until=s.until(0)),
        lambda _: HoldExpiredError(holding("now", until=NEVER_MIND).id),
    ),
    "posting more than is held": (
        lambda s: capture(s.hold, "p", 31),
        lambda s: HoldExceededError(s.hold.id, 31, 30),
    ),
    "posting to somebody else": (
        lambda s: replace(capture(s.hold, "p"), postings=(posting(account(), shop("other"), 30),)),
        lambda s: HoldNotActiveError(s.hold.id),
    ),
    "posting a hold that was posted": (lambda s: capture(s.posted, "p"), lambda s: HoldNotActiveError(s.posted.id)),
    "voiding a hold that was posted": (lambda s: release(s.posted), lambda s: HoldNotActiveError(s.posted.id)),
    "posting a hold that never was": (
        lambda s: capture(holding("none", until=s.until(9)), "p"),
        lambda _: HoldNotActiveError(holding("none", until=NEVER_MIND).id),
    ),
    "voiding another's hold": (
        lambda s: replace(release(s.hold), hold=HoldRef(owner("bob"), s.hold.id)),
        lambda s: HoldNotActiveError(s.hold.id),
    ),
    "posting a hold that is over": (lambda s: capture(s.late, "p"), lambda s: HoldExpiredError(s.late.id)),
    "voiding a hold that is over": (lambda s: release(s.late), lambda s: HoldExpiredError(s.late.id)),
    "lapsing a hold before its end": (
        lambda s: release(s.hold, kind=TransactionKind.LAPSE),
        lambda s: HoldNotActiveError(s.hold.id),
    ),
    "correcting what never was": (
        lambda _: reversal(spending("never")),
        lambda _: NotCorrectableError(spending("never").id),
    ),
    "correcting a hold": (lambda s: reversal(s.hold), lambda s: NotCorrectableError(s.hold.id)),
    "correcting a correction": (
        lambda s: replace(reversal(s.back), kind=TransactionKind.ADJUST),
        lambda s: NotCorrectableError(s.back.id),
    ),
    "correcting between others": (
        lambda s: replace(reversal(s.spent), postings=(posting(shop("other"), account(), 1),)),
        lambda s: NotCorrectableError(s.spent.id),
    ),
    "restating what was not earned": (
        lambda s: replace(restatement(s.spent, 1), postings=(posting(account(), account("bob"), 1),)),
        lambda s: NotCorrectableError(s.spent.id),
    ),
    "taking back more than is left": (
        lambda s: reversal(s.spent, amounts=(7,)),
        lambda s: OverCorrectedError(s.spent.id, 7, 6),
    ),
    "restating by more than was earned": (
        lambda s: restatement(s.earned, -101),
        lambda s: OverCorrectedError(s.earned.id, 101, 100),
    ),
    "a key with another amount": (lambda _: spending("spent", amount=11), lambda _: IdempotencyConflictError("spent")),
    "a key with another cause": (
        lambda s: replace(s.spent, cause={"note": "other"}),
        lambda _: IdempotencyConflictError("spent"),
    ),
    "a key with another finality": (
        lambda s: capture(s.posted, "post", final=False),
        lambda _: IdempotencyConflictError("post"),
    ),
    "a key with another hold": (lambda s: capture(s.hold, "post", 10), lambda _: IdempotencyConflictError("post")),
    "a key for another correction": (
        lambda s: replace(s.back, corrects=TransactionId("tx_other")),
        lambda _: IdempotencyConflictError("back"),
    ),
}


async def test_a_refusal_names_its_reason_and_changes_nothing(
    services: Services, scene: Scene, subtests: pytest.Subtests
) -> None:
    before = await dump(services)
    for name, (ask, refuse) in REFUSALS.items():
        refusal = refuse(scene)
        with subtests.test(msg=name):
            with pytest.raises(type(refusal)) as caught:
                await services.ledger.post(ask(scene))
            told = {field.name: getattr(caught.value, field.name) for field in fields(caught.value)}
            assert told == {field.name: getattr(refusal, field.name) for field in fields(refusal)}
            assert await dump(services) == before


async def test_a_page_carries_no_more_than_two_hundred_holds(services: Services, clock: ManualClock) -> None:
    until = clock.now() + timedelta(hours=1)
    await services.ledger.post(earning(amount=1_000))
    holds = [holding(f"hold-{number}", amount=1, until=until) for number in range(MAX_HOLDS)]
    for hold in holds:
        await services.ledger.post(hold)
    before = await dump(services)
    with pytest.raises(TooManyHoldsError) as caught:
        await services.ledger.post(holding("one too many", amount=1, until=until))
    assert caught.value.limit == MAX_HOLDS
    assert await dump(services) == before
    await services.ledger.post(release(holds[0]))
    await services.ledger.post(holding("one too many", amount=1, until=until))


async def test_without_debts_a_shortfall_is_refused(services: Services, scene: Scene) -> None:
    """Where the programme does not lend, a correction meets the guard like any spending."""
    policy = PointsPolicy(services.programme.zone, debt_allowed=False)
    strict = Ledger(services.database, Transactions(services.database), services.clock, policy)
    before = await dump(services)
    for asked in (reversal(scene.earned), restatement(scene.earned, -100), adjustment(-100)):
        with pytest.raises(InsufficientFundsError) as caught:
            await strict.post(asked)
        assert (caught.value.needed, caught.value.available) == (100, 49)
    assert await dump(services) == before
    # Where it does, the same goes through: the refusal left the key free.
    await services.ledger.post(reversal(scene.earned))
    assert (await services.ledger.get_page(owner())).debt(POINTS) == 51


async def test_what_no_book_can_hold_is_no_refusal_and_changes_nothing(services: Services, scene: Scene) -> None:
    debt = replace(
        spending("repay"), kind=TransactionKind.REPAY, postings=(posting(account(), debt_of(owner(), POINTS), 1),)
    )
    before = await dump(services)
    for asked in (
        debt,
        replace(scene.hold, key="no end", expires_at=None),
        replace(scene.back, key="x", corrects=None),
    ):
        with pytest.raises(MalformedTransactionError):
            await services.ledger.post(asked)
    assert await dump(services) == before
