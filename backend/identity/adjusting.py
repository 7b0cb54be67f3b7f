"""The door through which staff correct a citizen's points by hand; each names why and, by pseudonym, who."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity import rules
from backend.identity.errors import ForbiddenError
from backend.kernel.crypto import keyed_hash
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.ids import derived_id
from backend.ledger.model import MINTS, POINTS, Posting, Transaction, TransactionKind, account_of, citizen_owner

if TYPE_CHECKING:
    from backend.identity.model import Principal
    from backend.identity.service import Identity
    from backend.kernel.ids import CitizenId, TransactionId
    from backend.ledger.service import Ledger

MAX_REASON = 200


class Adjusting:
    """Corrections of points by administrators."""

    def __init__(self, identity: Identity, ledger: Ledger, lookup_key: bytes) -> None:
        self._identity = identity
        self._ledger = ledger
        self._lookup_key = lookup_key

    async def adjust_points(
        self,
        principal: Principal,
        citizen: CitizenId,
        points: int,
        reason: str,
        *,
        key: str,
        corrects: TransactionId | None = None,
    ) -> TransactionId:
        """Give (above zero) or take back (below zero) whole points, for a reason, perhaps correcting a transaction.

        What is taken back and no longer there becomes a debt, where the programme allows debts.

        Raises:
            ForbiddenError: not an administrator.
            InvalidInputError: the key, the citizen (not registered), the number, ``corrects`` (no id at all), or the
                reason (1–200 characters).
            InsufficientFundsError: fewer points are there, and the programme allows no debts.
            NotCorrectableError, OverCorrectedError: ``corrects`` cannot be corrected so.
            IdempotencyConflictError: the key was used for another correction.
        """
        rules.require_idempotency_key(key)
        if not principal.is_admin:
            raise ForbiddenError(Text("调整积分", "adjustPoints"))
        rules.require_name("citizen", citizen)
        rules.require_points(points, signed=True)
        if corrects is not None:
            rules.require_name("corrects", corrects)
        rules.require_note("reason", reason, limit=MAX_REASON)
        if citizen not in await self._identity.find_citizens([citizen]):
            raise InvalidInputError("citizen", Text("没有这位市民", "no such citizen"))
        mint, account = MINTS[POINTS], account_of(citizen_owner(citizen), POINTS)
        payer, payee = (mint, account) if points > 0 else (account, mint)
        correction = Transaction(
            key=derived_id("adjust", str(principal), key),
            kind=TransactionKind.ADJUST,
            postings=(Posting(from_account=payer, to_account=payee, asset=POINTS, amount=abs(points)),),
            # The citizen sees the cause for ever; who of the staff it was is for those who have the key.
            cause={"staff": keyed_hash(self._lookup_key, "staff", principal.id)[:32], "reason": reason},
            corrects=corrects,
        )
        try:
            return await self._ledger.post(correction)
        except IdempotencyConflictError as error:
            raise IdempotencyConflictError(key) from error
