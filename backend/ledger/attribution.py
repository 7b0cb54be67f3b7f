"""Which units of one asset an owner's transactions brought, moved and took. Pure; one account, no other owner's page.

Amounts in a book are fungible; to say which act a spent point came from takes a rule. These are exact and need nothing
but the owner's own transactions, in their sequence:

- Units wait in queues: points in one per lot, held or free; any other asset in one. What a posting brings joins the end
  of the queues of the lots it goes into. What a posting takes leaves the lots the book says it took (``lots`` of the
  stored posting), soonest end first, and of each lot the units that joined first. A HOLD takes nothing, its POST does.
  What an EARN, ADJUST, RESTATE or LEND (an advance) brings has its origin there.
- A unit is known by the posting that brought it to the page and its number in it. The units that a transfer brings are
  numbered in the order in which it took them from its payer, so they can be followed from page to page.
- What moves to a lot of grace when a hold ends are the units of the ended lots that joined them first.
- A correction that gives back what a posting took gives back the very units, the last taken first, each to the lot it
  left as far as the book names that lot. A returned point so still traces to its act.
- A POOL names in its cause, posting by posting, the transaction whose units it takes (``of_0``, ``of_1`` …), where they
  still are.
- A correction that takes back prefers, in the lots the book names, units that the corrected transaction brought, or
  another correction of it. The rest, where they have been spent, are those that joined first.

After each transaction the queues must sum to what the book says, lot by lot.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from backend.kernel.ids import TransactionId
from backend.ledger import lots as lots_of
from backend.ledger.model import POINTS, RELEASING, AccountId, Lot, TransactionKind, split_account

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backend.ledger.model import Line, Lots, Posting, Terms, Transaction

Kind = TransactionKind
ENDING = RELEASING | {Kind.POST}
# The only queue of an asset that has no lots.
ENDLESS = datetime.max.replace(tzinfo=UTC)


class UntraceableError(ValueError):
    """A stored transaction moves what is not there: the book is damaged, and the audit names where."""


class PostingRef(NamedTuple):
    """A posting: its transaction and its place in it, from 0."""

    transaction: TransactionId
    number: int


class Units(NamedTuple):
    """``amount`` units in a row of those that a posting brought, the ``start``-th first."""

    brought_by: PostingRef
    start: int
    amount: int

    def head(self, amount: int) -> Units:
        """The first so many."""
        return Units(self.brought_by, self.start, amount)

    def tail(self, amount: int) -> Units:
        """All but the first so many."""
        return Units(self.brought_by, self.start + amount, self.amount - amount)


def overlap(one: Units, other: Units) -> Units | None:
    """The units that are among both."""
    start = max(one.start, other.start)
    amount = min(one.start + one.amount, other.start + other.amount) - start
    return Units(one.brought_by, start, amount) if one.brought_by == other.brought_by and amount > 0 else None


@dataclass(frozen=True, slots=True)
class Movement:
    """A transaction as it stands on one owner's page: the lots its postings took from their payers, and its line."""

    id: TransactionId
    transaction: Transaction
    terms: Terms
    taken: Sequence[Lots]
    line: Line


class Arrival(NamedTuple):
    """What is known of a posting that brought units: its kind, the act that caused it, who paid."""

    kind: TransactionKind
    action: str | None
    payer: AccountId


class Move(NamedTuple):
    """Units that a posting took, the ``offset``-th of it first, or (``sign`` -1) that it gave back.

    ``order`` counts the postings on the page; ``to_account`` is whose the units are then.
    """

    order: int
    posting: PostingRef
    kind: TransactionKind
    to_account: AccountId
    units: Units
    offset: int
    sign: int


class Brought(NamedTuple):
    """The units a posting put on the page, and when in the order of the page's postings."""

    order: int
    units: Sequence[Units]


Way = tuple["TransactionId", AccountId, AccountId]


@dataclass(slots=True)
class _Taken:
    """Units taken out of a lot; the first ``left`` of them have not come back."""

    lot: datetime
    units: Units
    left: int


class Attribution:
    """The units of one account, as its owner's transactions, applied in their sequence, move them."""

    def __init__(self, account: AccountId) -> None:
        self.account = account
        self.balance = 0
        self.steps = 0
        self.arrivals: dict[PostingRef, Arrival] = {}
        self._brought: dict[PostingRef, Brought] = {}
        self._took: dict[PostingRef, Sequence[Units]] = {}
        self.moves: defaultdict[PostingRef, list[Move]] = defaultdict(list)
        self._has_lots = split_account(account).asset == POINTS
        self._queues: defaultdict[datetime, deque[Units]] = defaultdict(deque)
        self._records: defaultdict[Way, list[_Taken]] = defaultdict(list)
        self._corrected: dict[TransactionId, TransactionId] = {}
        self._named: Lots = ()
        self._order = 0

    def apply(self, movement: Movement) -> None:
        """Let the owner's next transaction move units; ``steps`` grows by what it cost.

        Raises:
            UntraceableError: it does not fit what came before it.
        """
        transaction = movement.transaction
        changes: list[tuple[datetime, int]] = []
        self._named = transaction.lots.get(self.account, ())
        if transaction.corrects is not None:
            self._corrected[movement.id] = transaction.corrects
        for number, posting in enumerate(transaction.postings if transaction.kind is not Kind.HOLD else ()):
            ref = PostingRef(movement.id, number)
            if posting.from_account == self.account:
                changes += ((end, -amount) for end, amount in self._pay(movement, ref, posting))
            elif posting.to_account == self.account:
                changes += self._receive(movement, ref, posting)
        if self._has_lots:
            self._grace(movement, lots_of.collect((*movement.line.lots, *((end, -n) for end, n in changes))))
        self.balance += sum(amount for _, amount in changes)
        self.steps += 1 + len(changes)
        if self.balance != movement.line.balance:
            raise UntraceableError(f"{movement.id}: {self.account} has {self.balance}, not {movement.line.balance}")

    def taken_by(self, posting: PostingRef) -> Sequence[Units]:
        """The units the posting took, in the order in which it took them.

        Raises:
            UntraceableError: it took none here.
        """
        if posting not in self._took:
            raise UntraceableError(f"{posting.transaction} took nothing from {self.account}")
        return self._took[posting]

    def brought_by(self, posting: PostingRef) -> Brought:
        """The units the posting brought or gave back.

        Raises:
            UntraceableError: it brought none here.
        """
        if posting not in self._brought:
            raise UntraceableError(f"{posting.transaction} brought nothing to {self.account}")
        return self._brought[posting]

    def lots(self) -> Lots:
        """How much waits in each queue."""
        return lots_of.collect((end, units.amount) for end, queue in self._queues.items() for units in queue)

    def waiting(self) -> Iterable[Units]:
        """The units that are still there, held or free."""
        return (units for queue in self._queues.values() for units in queue)

    def _pay(self, movement: Movement, ref: PostingRef, posting: Posting) -> Lots:
        """Take the posting's amount; from which lots."""
        transaction = movement.transaction
        lots = movement.taken[ref.number] if self._has_lots else (Lot(ENDLESS, posting.amount),)
        taken = [
            _Taken(end, units, units.amount)
            for end, amount in lots
            for units in self._take(end, amount, movement.id, _preferred(transaction, ref.number))
        ]
        self._order += 1
        offset = 0
        self._took[ref] = [run.units for run in taken]
        for units in self._took[ref]:
            move = Move(self._order, ref, transaction.kind, posting.to_account, units, offset, 1)
            self.moves[units.brought_by].append(move)
            offset += units.amount
        self.steps += len(taken)
        record = (transaction.corrects or movement.id, posting.from_account, posting.to_account)
        # What more a correction moved the same way can be given back like the rest; what it took back cannot.
        if transaction.corrects is None or record in self._records:
            self._records[record] += taken
        self._use_named(lots)
        return lots

    def _take(
        self, end: datetime, amount: int, transaction: TransactionId, preferred: TransactionId | None
    ) -> Iterable[Units]:
        """The units that leave a lot, in their order."""
        queue = self._queues[end]
        taken: list[Units] = []
        if preferred is not None:
            taken = self._take_own(queue, amount, preferred)
            amount -= sum(units.amount for units in taken)
        while amount and queue:
            units = queue.popleft()
            if units.amount > amount:
                queue.appendleft(units.tail(amount))
                units = units.head(amount)
            amount -= units.amount
            taken.append(units)
        if amount:
            raise UntraceableError(f"{transaction}: {self.account} lacks {amount} in the lot that ends {end}")
        return taken

    def _take_own(self, queue: deque[Units], amount: int, preferred: TransactionId) -> list[Units]:
        """Of a queue, the first units that the preferred transaction brought, or a correction of it."""
        taken: list[Units] = []
        self.steps += len(queue)
        for _ in range(len(queue)):
            units = queue.popleft()
            by = units.brought_by.transaction
            part = min(units.amount, amount) if preferred in (by, self._corrected.get(by)) else 0
            if part:
                taken.append(units.head(part))
                amount -= part
            if part < units.amount:
                queue.append(units.tail(part))
        return taken

    def _receive(self, movement: Movement, ref: PostingRef, posting: Posting) -> Sequence[Lot]:
        """Bring the posting's amount: first what it gives back, then new units; into which lots."""
        transaction = movement.transaction
        rooms = [Lot(ENDLESS, posting.amount)]
        if self._has_lots:
            into = lots_of.take(self._named or movement.taken[ref.number], posting.amount)
            self._use_named(into)
            rooms = _rooms(into, posting.amount, movement.terms)
        self._order += 1
        arriving = self._give_back(ref, posting, transaction)
        new = posting.amount - sum(units.amount for _, units in arriving)
        if new:
            action = transaction.cause.get("action")
            self.arrivals[ref] = Arrival(transaction.kind, action, posting.from_account)
            arriving.append((None, Units(ref, posting.amount - new, new)))
        placed = _place(arriving, rooms)
        for end, units in placed:
            self._queues[end].append(units)
        self._brought[ref] = Brought(self._order, [units for _, units in placed])
        self.steps += len(placed)
        return rooms

    def _give_back(
        self, ref: PostingRef, posting: Posting, transaction: Transaction
    ) -> list[tuple[datetime | None, Units]]:
        """The units that the corrected posting took last, in the order it took them, with the lots they left."""
        if transaction.corrects is None:
            return []
        record = self._records.get((transaction.corrects, posting.to_account, posting.from_account), [])
        amount = posting.amount
        returned: list[tuple[datetime | None, Units]] = []
        while amount and record:
            last = record[-1]
            part = min(last.left, amount)
            last.left -= part
            amount -= part
            if part:
                units = Units(last.units.brought_by, last.units.start + last.left, part)
                move = Move(self._order, ref, transaction.kind, posting.to_account, units, 0, -1)
                self.moves[units.brought_by].append(move)
                returned.append((last.lot, units))
            if not last.left:
                record.pop()
        return returned[::-1]

    def _use_named(self, used: Lots) -> None:
        """What one posting took of the lots that a correction names, the next cannot: as in ``rules``."""
        if self._named:
            left = lots_of.collect((*self._named, *((end, -amount) for end, amount in used)))
            self._named = tuple(lot for lot in left if lot.amount > 0)

    def _grace(self, movement: Movement, left: Lots) -> None:
        """What else the line says of the lots: those that ended in a hold turn into a lot of grace."""
        if not left:
            return
        if movement.transaction.kind not in ENDING or lots_of.total(left):
            raise UntraceableError(f"{movement.id}: its postings do not explain the lots of {self.account}")
        # Sorted by end: grace ends after all that have ended.
        *ended, grace = left
        for end, change in ended:
            moved = self._take(end, -change, movement.id, None)
            self._queues[grace.expires_at].extend(moved)


def _preferred(transaction: Transaction, number: int) -> TransactionId | None:
    """Whose units a posting takes first."""
    named = transaction.cause.get(f"of_{number}") if transaction.kind is Kind.POOL else None
    return TransactionId(named) if named else transaction.corrects


def _rooms(into: Lots, amount: int, terms: Terms) -> list[Lot]:
    """The lots that ``rules`` puts a received amount into, in the order in which it was taken from those given."""
    rooms = [Lot(terms.opens, lot.amount) if lots_of.has_grace(lot, terms.at) else lot for lot in into]
    rest = amount - lots_of.total(into)
    return [*rooms, Lot(terms.opens, rest)] if rest else rooms


def _place(arriving: Iterable[tuple[datetime | None, Units]], rooms: Sequence[Lot]) -> list[tuple[datetime, Units]]:
    """Each unit into the lot it had left while there is room, all others in order into what room is left."""
    if len(rooms) == 1:
        return [(rooms[0].expires_at, units) for _, units in arriving]
    free = [room.amount for room in rooms]
    placed: list[tuple[datetime, Units]] = []
    for at_home in (True, False):
        waiting = []
        for lot, run in arriving:
            units = run
            for number, room in enumerate(rooms):
                part = min(units.amount, free[number]) if room.expires_at == lot or not at_home else 0
                if part:
                    placed.append((room.expires_at, units.head(part)))
                    free[number] -= part
                    units = units.tail(part)
            if units.amount:
                waiting.append((lot, units))
        arriving = waiting
    return placed
