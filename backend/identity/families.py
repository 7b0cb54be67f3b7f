"""The only door to families: found one, invite into it, join, leave, and give points within it.

Every operation has an idempotency key, which is taken in the transaction of its effect. Whether points may be given at
all is the programme's decision; a family only bounds among whom.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from backend.identity import rules
from backend.identity.errors import (
    AlreadyInFamilyError,
    FamilyFullError,
    ForbiddenError,
    InvitationInvalidError,
    NoFamilyError,
    NotInFamilyError,
    NotTransferableError,
    TooManyInvitationsError,
    TooManyTriesError,
)
from backend.identity.family_store import FamilyReads, FamilyWrites
from backend.identity.model import Family, Invitation
from backend.kernel.base32 import code_of, read_code
from backend.kernel.clock import local_date
from backend.kernel.crypto import keyed_hash, payload_hash
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.ids import derived_id
from backend.ledger.model import POINTS, Posting, Transaction, TransactionKind, account_of, citizen_owner
from backend.mongo.idempotency import Use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from backend.identity.model import Principal
    from backend.identity.service import Identity
    from backend.kernel.clock import Clock
    from backend.kernel.ids import CitizenId, TransactionId
    from backend.ledger.service import Ledger
    from backend.mongo.client import Database
    from backend.mongo.transactions import Transactions, Tx

MAX_MEMBERS = 8
MAX_INVITATIONS_A_DAY = 20
# Codes have 40 bits: whoever guesses 20 a day among a million open ones meets one in 150 years.
MAX_TRIES_A_DAY = 20
INVITATION_LIFETIME = timedelta(hours=24)
COUNTS_KEPT_FOR = timedelta(days=2)
MAX_MESSAGE = 60


class Families:
    """Families of one programme."""

    def __init__(
        self,
        *,
        database: Database,
        transactions: Transactions,
        identity: Identity,
        ledger: Ledger,
        clock: Clock,
        zone: ZoneInfo,
        lookup_key: bytes,
        transferable: bool,
    ) -> None:
        self._reads = FamilyReads(database)
        self._transactions = transactions
        self._identity = identity
        self._ledger = ledger
        self._clock = clock
        self._zone = zone
        self._lookup_key = lookup_key
        self._transferable = transferable

    async def find_family(self, citizen: CitizenId) -> Family | None:
        """The citizen's family as it stands."""
        family = (await self._reads.families_of([citizen])).get(citizen)
        if family is None:
            return None
        members = await self._reads.members(family, limit=MAX_MEMBERS)
        people = await self._identity.find_citizens(members)
        return Family(family, tuple(people[member] for member in members if member in people))

    async def found_family(self, principal: Principal, *, key: str) -> Family:
        """Make a family whose only member is the caller.

        Raises:
            ForbiddenError: not a registered citizen.
            AlreadyInFamilyError: the caller belongs to a family.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        citizen = await self._registered(principal, key)
        use = _use(principal, "foundFamily", key)

        async def effect(writes: FamilyWrites, now: datetime) -> None:
            await _require_alone(writes, citizen)
            await writes.found(derived_id("family", str(principal), key), citizen, now)

        await self._once(use, effect)
        return await self._family(citizen)

    async def invite(self, principal: Principal, *, key: str) -> Invitation:
        """Make a code with which one citizen may join the caller's family within 24 hours; told here and never again.

        The code follows from the key, so that a repeated request is told it again though nothing stores it.

        Raises:
            ForbiddenError: not a citizen.
            NoFamilyError, FamilyFullError, TooManyInvitationsError: nothing to join, no room, no more codes today.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        citizen = _citizen(principal, key)
        use = _use(principal, "inviteToFamily", key)
        code = code_of(keyed_hash(self._lookup_key, "family invitation", str(principal), key))

        async def effect(writes: FamilyWrites, now: datetime) -> None:
            family = await writes.family_of(citizen)
            if family is None:
                raise NoFamilyError
            if await writes.size(family) >= MAX_MEMBERS:
                raise FamilyFullError(MAX_MEMBERS)
            if not await self._count(writes, citizen, "invite", MAX_INVITATIONS_A_DAY, now):
                raise TooManyInvitationsError(MAX_INVITATIONS_A_DAY)
            await writes.insert_invitation(self._hash(code), family, citizen, now + INVITATION_LIFETIME)

        return Invitation(code, await self._once(use, effect) + INVITATION_LIFETIME)

    async def join(self, principal: Principal, code: str, *, key: str) -> Family:
        """Join the family that the code invites to; the code is used up.

        Raises:
            ForbiddenError: not a registered citizen.
            AlreadyInFamilyError, TooManyTriesError, InvitationInvalidError, FamilyFullError: in this order.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        citizen = await self._registered(principal, key)
        read = read_code(code)
        use = _use(principal, "joinFamily", key, read or code)
        await self._count_try(citizen, use)
        if read is None:
            raise InvitationInvalidError

        async def effect(writes: FamilyWrites, now: datetime) -> None:
            await _require_alone(writes, citizen)
            family = await writes.use_invitation(self._hash(read), now=now)
            if family is None:
                raise InvitationInvalidError
            if await writes.size(family) >= MAX_MEMBERS:
                raise FamilyFullError(MAX_MEMBERS)
            await writes.add(family, citizen, below=MAX_MEMBERS, now=now)

        await self._once(use, effect)
        return await self._family(citizen)

    async def leave(self, principal: Principal, *, key: str) -> datetime:
        """Leave the caller's family; the last to leave ends it, and the caller's open invitations lead nowhere.

        Returns when it happened.

        Raises:
            ForbiddenError: not a citizen.
            NoFamilyError: there is none to leave.
            InvalidInputError, IdempotencyConflictError: the key.
        """
        citizen = _citizen(principal, key)

        async def effect(writes: FamilyWrites, _: datetime) -> None:
            family = await writes.family_of(citizen)
            if family is None:
                raise NoFamilyError
            await writes.remove(family, citizen, size=await writes.size(family))

        return await self._once(_use(principal, "leaveFamily", key), effect)

    async def give_points(
        self, principal: Principal, to: CitizenId, points: int, *, key: str, message: str | None = None
    ) -> TransactionId:
        """Give points (whole, above zero) to a member of the caller's family; their expiry goes with them.

        Raises:
            ForbiddenError: not a citizen.
            InvalidInputError: the key, the receiver, the number or the message (1–60 characters).
            NotTransferableError: the programme does not let points be given.
            NotInFamilyError: the two do not belong to one family.
            InsufficientFundsError: fewer points are available.
            IdempotencyConflictError: the key was used for another gift.
        """
        citizen = _citizen(principal, key)
        rules.require_points(points)
        rules.require_name("to", to)
        if to == citizen:
            raise InvalidInputError("to", Text("不能转给自己", "somebody other than yourself"))
        if message is not None:
            rules.require_note("message", message, limit=MAX_MESSAGE)
        giver, receiver = (account_of(citizen_owner(person), POINTS) for person in (citizen, to))
        gift = Transaction(
            key=derived_id("give", str(principal), key),
            kind=TransactionKind.TRANSFER,
            postings=(Posting(from_account=giver, to_account=receiver, asset=POINTS, amount=points),),
            cause={} if message is None else {"message": message},
        )
        # What was given stays given, whoever has left the family since.
        if await self._ledger.find_transaction(gift.id) is None:
            await self._require_same_family(citizen, to)
        try:
            return await self._ledger.post(gift)
        except IdempotencyConflictError as error:
            raise IdempotencyConflictError(key) from error

    async def _require_same_family(self, giver: CitizenId, receiver: CitizenId) -> None:
        if not self._transferable:
            raise NotTransferableError
        families = await self._reads.families_of([giver, receiver])
        if giver not in families or families[giver] != families.get(receiver):
            raise NotInFamilyError

    async def _registered(self, principal: Principal, key: str) -> CitizenId:
        citizen = _citizen(principal, key)
        if citizen not in await self._identity.find_citizens([citizen]):
            raise ForbiddenError(Text("未登记市民的家庭组", "a family of somebody who is not registered"))
        return citizen

    async def _family(self, citizen: CitizenId) -> Family:
        """The family the caller has just come into, or came into under a key now repeated.

        Raises:
            NoFamilyError: the caller has left it since.
        """
        family = await self.find_family(citizen)
        if family is None:
            raise NoFamilyError
        return family

    async def _once(self, use: Use, effect: Callable[[FamilyWrites, datetime], Awaitable[None]]) -> datetime:
        """Let the key take its effect, once; when it did."""
        now = self._clock.now()

        async def body(tx: Tx) -> datetime:
            writes = FamilyWrites(tx)
            taken = await writes.claimed_at(use)
            if taken is not None:
                return taken
            await effect(writes, now)
            await writes.claim(use, now)
            return now

        return await self._transactions.run(body)

    async def _count_try(self, citizen: CitizenId, use: Use) -> None:
        """Count a try before its code is looked up, in a transaction of its own: a refusal must not undo the count."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            writes = FamilyWrites(tx)
            if await writes.claimed_at(use) is not None:
                return
            await _require_alone(writes, citizen)
            if not await self._count(writes, citizen, "join", MAX_TRIES_A_DAY, now):
                raise TooManyTriesError(MAX_TRIES_A_DAY)

        await self._transactions.run(body)

    async def _count(self, writes: FamilyWrites, citizen: CitizenId, what: str, limit: int, now: datetime) -> bool:
        name = f"{citizen}:{what}:{local_date(now, self._zone)}"
        return await writes.count(name, limit=limit, expires_at=now + COUNTS_KEPT_FOR)

    def _hash(self, code: str) -> str:
        return keyed_hash(self._lookup_key, "family code", code)


def _citizen(principal: Principal, key: str) -> CitizenId:
    rules.require_idempotency_key(key)
    if principal.citizen is None:
        raise ForbiddenError(Text("市民的家庭组与积分转赠", "families and gifts are citizens'"))
    return principal.citizen


def _use(principal: Principal, operation: str, key: str, *payload: str) -> Use:
    return Use(str(principal), operation, key, payload_hash(payload))


async def _require_alone(writes: FamilyWrites, citizen: CitizenId) -> None:
    if await writes.family_of(citizen) is not None:
        raise AlreadyInFamilyError
