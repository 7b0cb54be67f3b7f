"""A ledger one can read in two minutes, written from the specification; must not import the rules it judges."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from backend.ledger.model import BANK, AccountId, Draw, HoldRef, Posting, Transaction, debt_of, split_account
from backend.ledger.model import TransactionKind as Kind

Lots = Counter[datetime]
NEVER = datetime.max.replace(tzinfo=UTC)  # the end of grams' only lot
RETURNING = {Kind.VOID, Kind.LAPSE, Kind.POST, Kind.REVERSE}
CORRECTABLE = {Kind.EARN, Kind.TRANSFER, Kind.POST, Kind.EXPIRE, Kind.ADJUST, Kind.POOL}
CORRECTING = {Kind.REVERSE, Kind.RESTATE, Kind.ADJUST}


def demand(holds: object, code: str) -> None:
    if not holds:
        raise ValueError(code)


def has_lots(account: str) -> bool:
    return account.startswith(("citizen:", "enterprise:", "pool:", "hold:")) and ":debt." not in account


def take(lots: Lots, amount: int, order: list[tuple[datetime, int]]) -> Lots:
    """Remove ``amount`` from the lots in that order, from each at most so much; what was removed."""
    taken = Lots()
    for end, most in order:
        part = min(amount - taken.total(), most, lots[end])
        lots[end] -= part
        taken[end] += part
    return +taken


@dataclass
class Reference:
    """Balances (a debt is a negative one), the lots of guarded accounts and of holds, and what was posted."""

    zone: tzinfo
    lots: dict[str, Lots] = field(default_factory=lambda: defaultdict(Lots))
    balances: Counter[str] = field(default_factory=Counter)
    holds: dict[str, tuple[Posting, datetime]] = field(default_factory=dict)
    left: Counter[tuple[str | None, str, str]] = field(default_factory=Counter)  # to correct, of what went that way
    taken: dict[tuple[str | None, str], Lots] = field(default_factory=lambda: defaultdict(Lots))
    given: dict[tuple[str | None, ...], Lots] = field(default_factory=lambda: defaultdict(Lots))
    at: dict[str, datetime] = field(default_factory=dict)
    posted: dict[str, Transaction] = field(default_factory=dict)

    def post(self, transactions: list[Transaction], now: datetime) -> str:
        """Post them in order, all or none: POSTED, REPLAYED where there was nothing left to post, or the refusal."""
        before = copy.deepcopy(vars(self), {id(tx): tx for tx in self.posted.values()})
        try:
            for tx in transactions:
                self._post(replace(tx, lots={}), now)
        except ValueError as refusal:
            vars(self).update(before)
            return str(refusal)
        return "POSTED" if len(self.posted) > len(before["posted"]) else "REPLAYED"

    def available(self, account: str, at: datetime) -> int:
        return sum(has for end, has in self.lots[account].items() if end > at)

    def _post(self, tx: Transaction, now: datetime) -> None:
        known = self.posted.setdefault(tx.id, tx)
        if known is not tx:
            demand(replace(known, expires_at=tx.expires_at) == tx, "IDEMPOTENCY_CONFLICT")
            return
        touched = [p.from_account for p in tx.postings] + [p.to_account for p in tx.postings if tx.kind != Kind.HOLD]
        owners = {split_account(a).owner for a in touched if has_lots(a)} | ({tx.hold.owner} if tx.hold else set())
        at = max([now, *(self.at[owner] for owner in owners if owner in self.at)])
        self.at |= dict.fromkeys(owners, at)
        lent = [p for p in tx.postings if has_lots(p.from_account) and not p.from_account.startswith("pool:")]
        for payer in {p.from_account for p in lent if tx.kind in CORRECTING}:
            missing = sum(p.amount for p in tx.postings if p.from_account == payer) - self.available(payer, at)
            self._owe(Kind.LEND, tx, payer, missing, at)
        ends = [Draw(tx.hold, tx.final)] if tx.hold else tx.draws
        held = {f"hold:{end.hold.id}": self._held(tx, end.hold, at) for end in ends}
        sources = {posting.from_account: hold for hold, posting in held.items()}
        for posting in tx.postings:
            source = sources.get(posting.from_account)
            demand(not source or posting.amount <= self.lots[source].total(), "HOLD_EXCEEDED")
            self._settle(tx, posting, source, at)
        for end in ends:
            source = f"hold:{end.hold.id}"
            if end.final or not self.lots[source].total():
                self._move(tx, source, self.holds.pop(source)[0].from_account, self.lots[source].total(), at)
        for debt in sorted(self.balances) if tx.kind not in {Kind.LEND, Kind.REPAY} else ():
            account = AccountId(debt.replace(":debt.", ":"))
            if account != debt and split_account(account).owner in owners:
                self._owe(Kind.REPAY, tx, account, min(-self.balances[debt], self.available(account, at)), at)

    def _owe(self, kind: Kind, parent: Transaction, account: AccountId, amount: int, at: datetime) -> None:
        owner, asset, _ = split_account(account)
        payer, payee = (account, debt_of(owner, asset))[:: -1 if kind == Kind.LEND else 1]
        if amount > 0:
            moved = (Posting(from_account=payer, to_account=payee, asset=asset, amount=amount),)
            key, cause = f"{kind.lower()}:{parent.id}:{owner}:{asset}", {"transaction": parent.id}
            self._post(Transaction(key=key, kind=kind, postings=moved, cause=cause), at)

    def _held(self, tx: Transaction, hold: HoldRef, at: datetime) -> Posting:
        """What was reserved; a trade draws only on what was reserved for the exchange."""
        posting, end = self.holds.get(f"hold:{hold.id}", (None, at))
        demand(posting and (end <= at or tx.kind != Kind.LAPSE), "HOLD_NOT_ACTIVE")
        demand(end > at or tx.kind == Kind.LAPSE, "HOLD_EXPIRED")
        assert posting
        demand(tx.kind != Kind.TRADE or posting.to_account.startswith("programme:exchange"), "HOLD_NOT_ACTIVE")
        return posting

    def _settle(self, tx: Transaction, posting: Posting, held: str | None, at: datetime) -> None:
        payer, payee, amount = posting.from_account, posting.to_account, posting.amount
        back, same = (tx.corrects, payee, payer), (tx.corrects, payer, payee)
        if tx.corrects:
            demand(back in self.left or (same in self.left and tx.kind != Kind.REVERSE), "NOT_CORRECTABLE")
            demand(tx.kind != Kind.RESTATE or self.posted[tx.corrects].kind == Kind.EARN, "NOT_CORRECTABLE")
            demand(back not in self.left or amount <= self.left[back], "OVER_CORRECTED")
            self.left.update({back: -amount} if back in self.left else {same: amount})
        elif tx.kind in CORRECTABLE and (has_lots(payer) or has_lots(payee)) and payee != BANK:
            is_one_way = {p.from_account for p in tx.postings}.isdisjoint(p.to_account for p in tx.postings)
            self.left.update({(tx.id, payer, payee): amount} if is_one_way else {})
        if tx.expires_at:
            demand(tx.expires_at > at, "HOLD_EXPIRED")
            self.holds[f"hold:{tx.id}"] = posting, tx.expires_at
            payee = AccountId(f"hold:{tx.id}")
        self._move(tx, held or payer, payee, amount, at)

    def _move(self, tx: Transaction, source: str, target: str, amount: int, at: datetime) -> None:
        """Corrected lots first, then soonest to end; what arrives ended, or from no lot, opens one."""
        lots, preferred = self.lots[source], self.given[tx.corrects, source]
        usable = sorted(end for end in lots if end > at or source.startswith("hold:") or tx.kind == Kind.EXPIRE)
        demand(sum(lots[end] for end in usable) >= amount or not has_lots(source), "INSUFFICIENT_FUNDS")
        taken = take(lots, amount, [(end, preferred[end]) for end in usable] + [(end, amount) for end in usable])
        left = self.taken[tx.corrects, target]
        returned = take(left, amount, sorted(left.items(), reverse=True)) or taken
        if (tx.corrects, source, target) in self.left and self.given[tx.corrects, target, "at first"]:
            returned = Lots({max(self.given[tx.corrects, target, "at first"]): amount})  # more of it joins its last lot
        opens = self._opens(tx.kind, at) if target.endswith(":points") else NEVER
        given = Lots({opens: amount - returned.total()})
        for end, has in returned.items():
            given[end if end > at or end.microsecond else opens] += has  # grace is given once
        self.given[tx.corrects, source] -= taken
        for key in {tx.id, tx.corrects or tx.id}:
            self.taken[key, self.holds[source][0].from_account if source in self.holds else source] += taken
        self.given[tx.id, target] += given
        self.given[tx.id, target, "at first"] += given
        self.lots[target] += given if has_lots(target) else Lots()
        self.balances.update({source: -amount, target: amount})

    def _opens(self, kind: Kind, at: datetime) -> datetime:
        """When points of no lot end: after 30 days of grace (known by its last millisecond), or with the 24th month."""
        day = at.astimezone(self.zone).date()
        months = day.year * 12 + day.month + 24
        day = day + timedelta(days=31) if kind in RETURNING else date(months // 12, months % 12 + 1, 1)
        return datetime.combine(day, time(), self.zone).astimezone(UTC) - timedelta(milliseconds=kind in RETURNING)
