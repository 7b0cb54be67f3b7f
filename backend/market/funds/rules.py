"""What enterprises, deposits and payouts may be, which step follows which, and what each posts. Pure."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from backend.identity.rules import require_note
from backend.kernel.clock import local_date
from backend.kernel.credit_codes import is_credit_code
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import InvalidInputError, Text
from backend.ledger.model import BANK, CNY, HoldRef, Posting, Transaction, TransactionKind, account_of
from backend.market.funds.errors import EnterpriseStageError, PayoutStageError
from backend.market.funds.model import (
    BankEntry,
    Enterprise,
    EnterpriseApplication,
    EnterpriseStage,
    EnterpriseStep,
    Payee,
    PayoutStage,
    StepTaken,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from backend.market.funds.model import Deposit, DepositOrder, Payout

MAX_NAME = 100
MAX_CONTACT = 100
MAX_PURPOSE = 200
MAX_REASON = 500
MAX_NOTE = 200
REFERENCE = re.compile(r"[A-Za-z0-9./_-]{1,64}")
# A hundred thousand million yuan: sums of such amounts stay far from 64 bits.
MAX_FEN = 10**13
MAX_OPEN_PAYOUTS = 5
FIRST_VALUE_DATE = date(2000, 1, 1)
# A request that nobody works off ends by itself; one of which the bank's transfer is recorded keeps its fen for a year.
REQUEST_DAYS = 30
SETTLING_DAYS = 366
MAX_PAYEE, MAX_BANK = 70, 100
ACCOUNT_NUMBER = re.compile(r"[0-9A-Z]{8,34}")
SHOWN_DIGITS = 4
SALT_BYTES = 16
PSEUDONYM_CHARACTERS = 32

FROM_STAGES: Mapping[EnterpriseStep, frozenset[EnterpriseStage]] = {
    EnterpriseStep.APPROVE: frozenset({EnterpriseStage.PROPOSED}),
    EnterpriseStep.REJECT: frozenset({EnterpriseStage.PROPOSED}),
    EnterpriseStep.SUSPEND: frozenset({EnterpriseStage.APPROVED}),
    EnterpriseStep.RESUME: frozenset({EnterpriseStage.SUSPENDED}),
}
TO_STAGE: Mapping[EnterpriseStep, EnterpriseStage] = {
    EnterpriseStep.APPROVE: EnterpriseStage.APPROVED,
    EnterpriseStep.REJECT: EnterpriseStage.REJECTED,
    EnterpriseStep.SUSPEND: EnterpriseStage.SUSPENDED,
    EnterpriseStep.RESUME: EnterpriseStage.APPROVED,
}


def require_application(given: EnterpriseApplication) -> EnterpriseApplication:
    """The application in its stored form.

    Raises:
        InvalidInputError: a field of it cannot be.
    """
    require_note("name", given.name, limit=MAX_NAME)
    require_note("contact", given.contact, limit=MAX_CONTACT)
    require_note("purpose", given.purpose, limit=MAX_PURPOSE)
    code = given.credit_code.strip().upper()
    if not is_credit_code(code):
        problem = Text("18 位统一社会信用代码，校验位须正确", "18 characters, the last of which checks the others")
        raise InvalidInputError("creditCode", problem)
    return dataclasses.replace(given, credit_code=code)


def stepped(enterprise: Enterprise, taken: StepTaken) -> Enterprise:
    """The enterprise after that step.

    Raises:
        EnterpriseStageError: the step does not follow on where the enterprise stands.
    """
    if enterprise.stage not in FROM_STAGES[taken.step]:
        raise EnterpriseStageError(enterprise.id, enterprise.stage)
    return dataclasses.replace(enterprise, stage=TO_STAGE[taken.step], steps=(*enterprise.steps, taken))


def require_fen(fen: int) -> None:
    """Refuse an amount that cannot move.

    Raises:
        InvalidInputError: below one fen, or beyond all reason.
    """
    if not 1 <= fen <= MAX_FEN:
        raise InvalidInputError("fen", Text(f"1–{MAX_FEN}", f"1–{MAX_FEN}"))


def require_reference(reference: str) -> str:
    """A bank's reference in its stored form, the same however it is typed: half-width, capitals, without blanks.

    Raises:
        InvalidInputError: that is not 1–64 letters, digits, dots, slashes, dashes and underscores.
    """
    form = "".join(unicodedata.normalize("NFKC", reference).split())
    if not REFERENCE.fullmatch(form):
        problem = Text("1–64 位字母、数字或 . / _ -", "1–64 letters, digits or . / _ -")
        raise InvalidInputError("reference", problem)
    return form.upper()


def require_entry(entry: BankEntry, today: date) -> BankEntry:
    """The line of a bank's statement in its stored form, as of that local day.

    Raises:
        InvalidInputError: the reference, or a value date to come or of another age.
    """
    reference = require_reference(entry.reference)
    if not FIRST_VALUE_DATE <= entry.value_date <= today:
        problem = Text(f"{FIRST_VALUE_DATE} 至今天", f"from {FIRST_VALUE_DATE} to today")
        raise InvalidInputError("valueDate", problem)
    return entry._replace(reference=reference)


def require_deposit(order: DepositOrder, today: date) -> DepositOrder:
    """The deposit in its stored form.

    Raises:
        InvalidInputError: the amount, the bank's entry, or the note (1–200 characters where there is one).
    """
    require_fen(order.fen)
    entry = require_entry(order.entry, today)
    if order.note is not None:
        require_note("note", order.note, limit=MAX_NOTE)
    return dataclasses.replace(order, entry=entry)


def require_payee(payee: Payee) -> Payee:
    """The bank account in its stored form: the number without blanks, its letters capitals.

    Raises:
        InvalidInputError: a field of it cannot be.
    """
    require_note("payee.name", payee.name, limit=MAX_PAYEE)
    require_note("payee.bank", payee.bank, limit=MAX_BANK)
    number = "".join(payee.number.split()).upper()
    if not ACCOUNT_NUMBER.fullmatch(number):
        raise InvalidInputError("payee.number", Text("8–34 位数字或字母", "8–34 digits or letters"))
    return Payee(payee.name.strip(), number, payee.bank.strip())


def masked(payee: Payee) -> Payee:
    """What others than finance staff see of a bank account: one letter of the name, four digits of the number."""
    return Payee(f"{payee.name[0]}**", f"****{payee.number[-SHOWN_DIGITS:]}", payee.bank)


def end_of_hold(now: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The local midnight after so many whole local days."""
    day = local_date(now, zone) + timedelta(days=days + 1)
    return datetime.combine(day, time(), zone).astimezone(UTC)


def require_stage(payout: Payout, now: datetime, *allowed: PayoutStage) -> None:
    """Refuse what does not follow on where the payout stands by then.

    Raises:
        PayoutStageError: it does not.
    """
    stage = payout.stage_at(now)
    if stage not in allowed:
        raise PayoutStageError(payout.id, stage)


def pseudonym(salt: str, actor: str) -> str:
    """Somebody as the book seals them: what receipts show opens by no guess, the record's own salt proves who it is."""
    return payload_hash([salt, actor])[:PSEUDONYM_CHARACTERS]


def depositing(deposit: Deposit) -> Transaction:
    """What brings an approved deposit into the book; the cause seals who proposed and who approved it."""
    assert deposit.decided_by is not None
    return Transaction(
        key=f"deposit:{deposit.id}",
        kind=TransactionKind.DEPOSIT,
        postings=(
            Posting(from_account=BANK, to_account=account_of(deposit.owner, CNY), asset=CNY, amount=deposit.fen),
        ),
        cause={
            "deposit": deposit.id,
            "reference": deposit.entry.reference,
            "proposer": pseudonym(deposit.salt, deposit.proposed_by),
            "approver": pseudonym(deposit.salt, deposit.decided_by),
        },
    )


def _paying(payout: Payout) -> Posting:
    return Posting(from_account=account_of(payout.owner, CNY), to_account=BANK, asset=CNY, amount=payout.fen)


def requesting(payout: Payout, expires_at: datetime) -> Transaction:
    """What holds the fen of a request until then; the cause seals the payee as encrypted and as shown."""
    return Transaction(
        key=f"payout:{payout.id}",
        kind=TransactionKind.HOLD,
        postings=(_paying(payout),),
        cause={"payout": payout.id, "payee": payload_hash([payout.sealed, *payout.masked])},
        expires_at=expires_at,
    )


def settling(payout: Payout, expires_at: datetime) -> tuple[Transaction, Transaction]:
    """What exchanges the request's hold for one that lasts until then."""
    hold = Transaction(
        key=f"payout:{payout.id}:settling",
        kind=TransactionKind.HOLD,
        postings=(_paying(payout),),
        cause={"payout": payout.id},
        expires_at=expires_at,
    )
    void = Transaction(
        key=f"payout:{payout.id}:exchange",
        kind=TransactionKind.VOID,
        cause={"payout": payout.id},
        hold=HoldRef(payout.owner, requesting(payout, expires_at).id),
    )
    return void, hold


def current_hold(payout: Payout) -> HoldRef:
    """The hold in which the payout's fen are, or were at its end."""
    if payout.settled_at is None:
        return HoldRef(payout.owner, requesting(payout, payout.expires_at).id)
    return HoldRef(payout.owner, settling(payout, payout.expires_at)[1].id)


def paying(payout: Payout) -> Transaction:
    """What takes the fen of an approved payout out of the book; the cause names the bank's reference and seals who."""
    assert payout.entry is not None
    assert payout.settled_by is not None
    assert payout.decided_by is not None
    return Transaction(
        key=f"payout:{payout.id}:paid",
        kind=TransactionKind.POST,
        postings=(_paying(payout),),
        cause={
            "payout": payout.id,
            "reference": payout.entry.reference,
            "proposer": pseudonym(payout.salt, payout.settled_by),
            "approver": pseudonym(payout.salt, payout.decided_by),
        },
        hold=current_hold(payout),
    )


def freeing(payout: Payout) -> Transaction:
    """What gives the fen back to their owner."""
    return Transaction(
        key=f"payout:{payout.id}:freed",
        kind=TransactionKind.VOID,
        cause={"payout": payout.id},
        hold=current_hold(payout),
    )
