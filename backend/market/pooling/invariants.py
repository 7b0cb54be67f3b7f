"""Checks of batches beside acts and book, at one instant.

Every act in a batch is a credited act of its contributor that gave as much; every contribution moved what its acts say,
and nothing else moved for it; what was issued is what the verdict leaves, laid out once more; and the pool's page holds
what was given less what was taken off and issued.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from backend.actions.corrected import applied_rule
from backend.actions.model import Status
from backend.kernel.tally import Tally
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.audit.store import find_homes, find_pages
from backend.ledger.model import QUANTIFIED, TransactionKind, pool_owner
from backend.market.pooling.entries import reversal, taking_out
from backend.market.pooling.model import BOUND, BatchStage, ContributionStage
from backend.market.pooling.rules import Weight, lay_out
from backend.market.pooling.snapshots import (
    UNREADABLE,
    find_actions_in,
    find_consents_in,
    stream_acts,
    stream_batches,
    stream_booked,
    stream_contributions,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from backend.actions.model import Action
    from backend.kernel.ids import ActionId, TransactionId
    from backend.ledger.audit.findings import Audit, Side
    from backend.market.pooling.model import Batch, Contribution, PooledAct, Share
    from backend.mongo.client import Document, Snapshot

AT_ONCE = 200
# Moments are taken before a transaction, which may be retried: what came first may tell the later one.
SLACK = timedelta(minutes=1)
Kind = TransactionKind


async def audit_pooling(snapshot: Snapshot, audit: Audit) -> None:
    """Check all batches of the snapshot; findings go to ``audit``."""
    tally = Tally()
    async for batch in stream_batches(snapshot, partial(_unreadable, audit)):
        try:
            await _check_batch(snapshot, batch, audit, tally)
        except UNREADABLE as error:
            audit.report(f"batch {batch.code}", f"cannot be checked: {error!r}")
    async for document in stream_booked(snapshot):
        _count_booked(document, tally)
    suspects = tally.suspects()
    if suspects is None:
        return
    async for batch in stream_batches(snapshot, _pass_by):
        await _check_batch(snapshot, batch, None, suspects)
    async for document in stream_booked(snapshot):
        _count_booked(document, suspects)
    for entry, lead in suspects.differences():
        side = "more is told than the book has" if lead > 0 else "the book has more than is told"
        audit.report(entry.decode(errors="replace"), f"{side}, by {abs(lead)} mg")


def _count_booked(document: Document, side: Side) -> None:
    """What a transaction moved for a batch, in milligrams: on the side of the book."""
    cause, kind = document["cause"], document["kind"]
    moved = sum(int(posting["amount"]) for posting in document["postings"] if posting["asset"] == QUANTIFIED)
    if kind == Kind.DEDUCT:
        side.add(f"deductions of batch {cause['batch']}".encode(), -moved)
    elif kind == Kind.ISSUE:
        side.add(f"issuance for contribution {cause.get('contribution')}".encode(), -moved)
    else:
        sign = 1 if kind == Kind.REVERSE else -1
        side.add(f"contribution {cause.get('contribution')}".encode(), sign * moved)


async def _check_batch(snapshot: Snapshot, batch: Batch, audit: Audit | None, side: Side) -> None:
    """Go through the batch's contributions; without ``audit`` only what is told is counted."""
    side.add(f"deductions of batch {batch.code}".encode(), batch.verdict.deducted_mg if batch.verdict else 0)
    on_broken = partial(_unreadable, audit) if audit else _pass_by
    contributions = [one async for one in stream_contributions(snapshot, batch.code, on_broken=on_broken)]
    given = [one for one in contributions if one.stage is ContributionStage.GIVEN]
    for one in given:
        side.add(f"contribution {one.id}".encode(), one.mg)
        side.add(f"issuance for contribution {one.id}".encode(), (one.pool_g + one.own_g) * MG_PER_GRAM)
    if audit is None:
        return
    taken_off = await _check_acts(snapshot, batch, contributions, audit)
    for start in range(0, len(contributions), AT_ONCE):
        await _check_transactions(snapshot, contributions[start : start + AT_ONCE], audit)
        await _check_consents(snapshot, batch, contributions[start : start + AT_ONCE], audit)
    place = f"batch {batch.code}"
    for problem in (*_stage_problems(batch), *_problems(batch, given)):
        audit.report(place, problem)
    if batch.stage is BatchStage.ISSUED and batch.issue is not None and batch.verdict is not None:
        for problem in _layout_problems(batch, given, taken_off):
            audit.report(place, problem)
    issued_mg = sum(one.pool_g + one.own_g for one in given) * MG_PER_GRAM
    deducted_mg = batch.verdict.deducted_mg if batch.verdict else 0
    left = sum(one.mg for one in given) - deducted_mg - issued_mg
    page = (await find_pages(snapshot, [pool_owner(batch.code)])).get(pool_owner(batch.code))
    held = page.balance(QUANTIFIED) if page else 0
    if held != left:
        audit.report(place, f"its pool holds {held} mg, {left} mg should be left")


def _stage_problems(batch: Batch) -> Iterator[str]:
    """In what the batch's stage is not that of what was decided, or two steps were taken by one person."""
    is_ended = batch.stage in (BatchStage.CANCELLING, BatchStage.CANCELLED)
    is_issuing = batch.stage in (BatchStage.ISSUING, BatchStage.ISSUED)
    for what, found, is_due in (
        ("verdict", batch.verdict, batch.stage in BOUND),
        ("issuance", batch.issue, is_issuing),
        ("end of the issuance", batch.issued_at, batch.stage is BatchStage.ISSUED),
        ("ending", batch.ending, is_ended),
    ):
        if (found is not None) is not is_due:
            yield f"is {batch.stage}, and its {what} is {'missing' if found is None else 'there'}"
    if batch.gathered_at is None and not is_ended and batch.stage is not BatchStage.GATHERING:
        yield f"is {batch.stage}, and was never gathered"
    if batch.verdict is not None and (batch.sample is None or batch.sample.seed != batch.verdict.content):
        yield "the verdict is on no sample of what it is about"
    last = batch.until - timedelta(days=1)
    code = f"-{batch.profile}-{batch.scenario.value.replace('_', '-')}-{batch.vintage:04}-{batch.number:03}"
    if not batch.code.endswith(code) or not batch.since.year == batch.vintage == last.year:
        yield f"is of {batch.vintage} and {batch.since} to {last}, its code should end with {code}"
    people = [batch.opener]
    people += [batch.verdict.verifier] if batch.verdict else []
    people += [batch.issue.issuer] if batch.issue else []
    if len(set(people)) < len(people):
        yield f"opening, verifying and issuing it was done by {', '.join(people)}"


def _problems(batch: Batch, given: Sequence[Contribution]) -> Iterator[str]:
    """In what the batch's totals are not those of the contributions that stand."""
    told = (batch.totals.contributions, batch.totals.acts, batch.totals.mg)
    found = (len(given), sum(one.acts for one in given), sum(one.mg for one in given))
    if told != found:
        yield f"tells {told} contributions, acts and mg, there are {found}"
    if batch.stage is BatchStage.ISSUED and batch.issue is not None:
        issued = sum(one.pool_g + one.own_g for one in given)
        residual = sum(one.residual_mg or 0 for one in given)
        if (issued, residual) != (batch.issue.grams, batch.issue.residual_mg):
            told_mg = batch.issue.residual_mg
            yield f"issued {issued} g with {residual} mg left, tells {batch.issue.grams} g and {told_mg} mg"


def _layout_problems(batch: Batch, given: Sequence[Contribution], taken_off: Mapping[str, int]) -> Iterator[str]:
    """Which contributions have not what the batch, laid out again, gives them."""
    assert batch.issue is not None
    assert batch.verdict is not None
    weights = [Weight(one.citizen, one.pool_mg, one.own_mg, taken_off.get(one.citizen, 0)) for one in given]
    pro_rata_mg = batch.verdict.deducted_mg - sum(taken_off.values())
    try:
        parts = lay_out(weights, pro_rata_mg, batch.issue.grams)
    except ValueError as error:
        yield f"cannot be laid out: {error}"
        return
    for one, part in zip(given, parts, strict=True):
        has = (one.deducted_mg, one.residual_mg, *(share.run if share else None for share in (one.pool, one.own)))
        if has != part[1:]:
            yield f"contribution {one.id} has {has}, laid out again it is {part[1:]}"


async def _check_acts(
    snapshot: Snapshot, batch: Batch, contributions: Sequence[Contribution], audit: Audit
) -> dict[str, int]:
    """Hold the pooled acts against contributions and actions; what the verdict took off by name, by citizen."""
    by_citizen = {one.citizen: one for one in contributions}
    named = {one.action: one.mg for one in batch.verdict.adjustments if one.action} if batch.verdict else {}
    counts: dict[str, tuple[int, int]] = {}
    taken_off: dict[str, int] = {}
    numbers = {one.citizen: _numbers(one) for one in contributions}
    on_broken = partial(_unreadable, audit)
    async for acts in _some(stream_acts(snapshot, batch.code, on_broken=on_broken)):
        actions = await find_actions_in(snapshot, [act.action for act in acts], on_broken)
        for act in acts:
            count, mg = counts.get(act.citizen, (0, 0))
            counts[act.citizen] = count + 1, mg + act.mg
            number = next(numbers.get(act.citizen, iter(())), 0)
            for problem in _act_problems(act, number, by_citizen.get(act.citizen), actions, batch):
                audit.report(f"pooled act {act.action}", problem)
            if act.action in named:
                taken_off[act.citizen] = taken_off.get(act.citizen, 0) + act.mg
    for one in contributions:
        expected = (one.acts, one.mg) if one.stage is ContributionStage.GIVEN else (0, 0)
        if counts.get(one.citizen, (0, 0)) != expected:
            audit.report(f"contribution {one.id}", f"its acts give {counts.get(one.citizen)}, not {expected}")
    if sum(taken_off.values()) != sum(named.values()):
        audit.report(f"batch {batch.code}", "acts that were taken off by name are not in it with those mg")
    return taken_off


def _numbers(contribution: Contribution) -> Iterator[int]:
    """The numbers that its acts have: in order, but for those of the acts that were taken out."""
    gone = {one.number for one in contribution.taken_out}
    return (number for number in range(1, contribution.acts + len(gone) + 1) if number not in gone)


def _act_problems(
    act: PooledAct,
    number: int,
    contribution: Contribution | None,
    actions: Mapping[ActionId, Action],
    batch: Batch,
) -> Iterator[str]:
    if act.number != number:
        yield f"has number {act.number}, not {number}"
    if contribution is None or act.pooled not in contribution.transfers:
        yield f"its transfer {act.pooled} is not its contribution's"
    action = actions.get(act.action)
    if action is None or action.settlement is None:
        yield "there is no such settled action"
        return
    if (action.citizen, action.settlement.transaction, action.kind) != (act.citizen, act.earned, act.kind):
        yield "is another's, or earned otherwise"
    if action.status is not Status.REVERSED and (action.status, action.reduction_mg) != (Status.CREDITED, act.mg):
        yield f"gave {act.mg} mg, the action is {action.status} with {action.reduction_mg} mg"
    if action.reversal is not None and (batch.verdict is None or action.reversal.at < batch.verdict.at):
        yield "better evidence replaced it before any verdict, and it is still in its batch"
    if (action.occurred_at, action.tier.value, action.evidence) != (act.occurred_at, act.tier, act.evidence):
        yield "tells another time, tier or evidence than its action"
    if applied_rule(action) != act.rule:
        yield f"tells rule {act.rule}, its action went by {applied_rule(action)}"


async def _check_transactions(snapshot: Snapshot, contributions: Sequence[Contribution], audit: Audit) -> None:
    """Hold each contribution's transfers, reversals and issuance against the book."""
    acts: dict[str, list[PooledAct]] = {}
    citizens = [one.citizen for one in contributions]
    async for act in stream_acts(snapshot, contributions[0].batch, citizens, _pass_by):
        acts.setdefault(act.pooled, []).append(act)
    wanted = {tx for one in contributions for tx in one.transfers}
    wanted |= {_reversal_id(one, number) for one in contributions for number in range(len(one.transfers))}
    wanted |= {taking_out(one.batch, one.citizen, gone).id for one in contributions for gone in one.taken_out}
    wanted |= {share.transaction for one in contributions for share in (one.pool, one.own) if share}
    homes = await find_homes(snapshot, sorted(wanted))
    for one in contributions:
        for problem in _transaction_problems(one, acts, homes):
            audit.report(f"contribution {one.id}", problem)


def _transaction_problems(
    one: Contribution, acts: Mapping[str, Sequence[PooledAct]], homes: Mapping[str, Document]
) -> Iterator[str]:
    for gone in one.taken_out:
        expected = taking_out(one.batch, one.citizen, gone)
        home = homes.get(expected.id)
        if home is None or home["payload"] != expected.payload:
            yield f"what took act {gone.action} out is not in the book as it tells"
    count = mg = 0
    for number, transfer in enumerate(one.transfers):
        home, back = homes.get(transfer), homes.get(_reversal_id(one, number))
        if home is None or home["kind"] != Kind.POOL:
            yield f"its transfer {transfer} is not in the book"
        else:
            standing = _standing(one, home)
            count, mg = count + len(standing), mg + sum(amount for amount, _ in standing)
            yield from _transfer_problems(one, home, back, acts.get(transfer, ()))
    if (one.acts, one.mg) != (count, mg):
        yield f"tells {one.acts} acts and {one.mg} mg, its transfers moved {count} and {mg} mg"
    for share in (one.pool, one.own):
        if share is not None and not _is_booked(share, homes.get(share.transaction)):
            yield f"its issuance {share.transaction} is not in the book as it tells"


def _transfer_problems(
    one: Contribution, home: Document, back: Document | None, acts: Sequence[PooledAct]
) -> Iterator[str]:
    """In what one of its transfers, without what was taken out of it since, is not its acts, or was not given back."""
    transfer = home["_id"]
    is_returned = one.stage in (ContributionStage.WITHDRAWN, ContributionStage.RETURNED)
    standing = _standing(one, home)
    if len(home["postings"]) - len(standing) != sum(gone.pooled == transfer for gone in one.taken_out):
        yield f"acts were taken out of its transfer {transfer} that are not in it"
    if (back is not None) is not (is_returned and bool(standing)):
        there = "missing" if back is None else "there"
        yield f"is {one.stage}, and the reversal of its transfer {transfer} is {there}"
    if back is not None and sum(int(p["amount"]) for p in back["postings"]) != sum(mg for mg, _ in standing):
        yield f"the reversal of its transfer {transfer} moved another amount"
    if not is_returned and standing != [(act.mg, act.earned) for act in acts]:
        yield f"its transfer {transfer} moved other amounts than its acts have"


def _standing(one: Contribution, home: Document) -> list[tuple[int, str | None]]:
    """What a transfer moved and was not taken out of it since: milligrams, and the earning of which they are."""
    gone = {(each.mg, each.earned) for each in one.taken_out if each.pooled == home["_id"]}
    moved = [(int(p["amount"]), home["cause"].get(f"of_{place}")) for place, p in enumerate(home["postings"])]
    return [each for each in moved if each not in gone]


def _reversal_id(contribution: Contribution, number: int) -> TransactionId:
    return reversal(contribution, number, 1).id


def _is_booked(share: Share, home: Document | None) -> bool:
    return (
        home is not None
        and home["kind"] == Kind.ISSUE
        and home["cause"].get("serials") == str(share.run)
        and all(int(posting["amount"]) == share.run.grams * MG_PER_GRAM for posting in home["postings"])
    )


async def _check_consents(
    snapshot: Snapshot, batch: Batch, contributions: Sequence[Contribution], audit: Audit
) -> None:
    """Hold each contribution against its citizen's authorisations: one for the scenario was in force when it began."""
    on_broken = partial(_unreadable, audit)
    consents = await find_consents_in(snapshot, [one.citizen for one in contributions], on_broken)
    for one in contributions:
        covering = [
            consent
            for consent in consents.get(one.citizen, ())
            if (consent.scenarios is None or batch.scenario in consent.scenarios)
            and (consent.until is None or consent.until + SLACK >= one.given_at)
        ]
        place = f"contribution {one.id}"
        if one.vintage != batch.vintage:
            audit.report(place, f"is of {one.vintage}, its batch is of {batch.vintage}")
        if not any(consent.since - SLACK <= one.given_at for consent in covering):
            audit.report(place, "no authorisation was in force when it was given")
        elif all(consent.benefit is not one.benefit for consent in covering):
            audit.report(place, f"its benefit {one.benefit} was never chosen")


def _unreadable(audit: Audit, what: str, error: Exception) -> None:
    audit.report(what, f"cannot be read: {error!r}")


def _pass_by(_what: str, _error: Exception) -> None:
    """Say nothing: it was said the first time."""


async def _some(acts: AsyncIterator[PooledAct]) -> AsyncIterator[list[PooledAct]]:
    """The acts, some at a time."""
    some: list[PooledAct] = []
    async for act in acts:
        some.append(act)
        if len(some) == AT_ONCE:
            yield some
            some = []
    if some:
        yield some
