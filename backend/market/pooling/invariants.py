"""Checks of batches beside acts and book, at one instant.

Every act in a batch is a credited act of its contributor that gave as much; every contribution moved what its acts say,
and nothing else moved for it; what was issued is what the verdict leaves, laid out once more; and the pool's page holds
what was given less what was taken off and issued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.actions.model import Status
from backend.kernel.tally import Tally
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.audit.store import find_homes, find_pages
from backend.ledger.model import QUANTIFIED, TransactionKind, pool_owner
from backend.market.pooling.gathering import reversal_id
from backend.market.pooling.model import BatchStage, ContributionStage
from backend.market.pooling.rules import Weight, lay_out
from backend.market.pooling.store import (
    find_actions_in,
    stream_acts,
    stream_batches,
    stream_booked,
    stream_contributions,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from backend.actions.model import Action
    from backend.kernel.ids import ActionId
    from backend.ledger.audit.findings import Audit, Side
    from backend.market.pooling.model import Batch, Contribution, PooledAct, Share
    from backend.mongo.client import Document, Snapshot

AT_ONCE = 200
Kind = TransactionKind


async def audit_pooling(snapshot: Snapshot, audit: Audit) -> None:
    """Check all batches of the snapshot; findings go to ``audit``."""
    tally = Tally()
    async for batch in stream_batches(snapshot):
        await _check_batch(snapshot, batch, audit, tally)
    async for document in stream_booked(snapshot):
        _count_booked(document, tally)
    suspects = tally.suspects()
    if suspects is None:
        return
    async for batch in stream_batches(snapshot):
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
    contributions = [one async for one in stream_contributions(snapshot, batch.code)]
    given = [one for one in contributions if one.stage is ContributionStage.GIVEN]
    for one in given:
        side.add(f"contribution {one.id}".encode(), one.mg)
        side.add(f"issuance for contribution {one.id}".encode(), (one.pool_g + one.own_g) * MG_PER_GRAM)
    if audit is None:
        return
    taken_off = await _check_acts(snapshot, batch, contributions, audit)
    for start in range(0, len(contributions), AT_ONCE):
        await _check_transactions(snapshot, contributions[start : start + AT_ONCE], audit)
    place = f"batch {batch.code}"
    for problem in _problems(batch, given):
        audit.report(place, problem)
    if batch.stage is BatchStage.ISSUED:
        for problem in _layout_problems(batch, given, taken_off):
            audit.report(place, problem)
    issued_mg = sum(one.pool_g + one.own_g for one in given) * MG_PER_GRAM
    deducted_mg = batch.verdict.deducted_mg if batch.verdict else 0
    left = sum(one.mg for one in given) - deducted_mg - issued_mg
    page = (await find_pages(snapshot, [pool_owner(batch.code)])).get(pool_owner(batch.code))
    held = page.balance(QUANTIFIED) if page else 0
    if held != left:
        audit.report(place, f"its pool holds {held} mg, {left} mg should be left")


def _problems(batch: Batch, given: Sequence[Contribution]) -> Iterator[str]:
    """In what the batch's totals are not those of the contributions that stand."""
    told = (batch.totals.contributions, batch.totals.acts, batch.totals.mg)
    found = (len(given), sum(one.acts for one in given), sum(one.mg for one in given))
    if told != found:
        yield f"tells {told} contributions, acts and mg, there are {found}"
    if batch.stage is BatchStage.ISSUED:
        assert batch.issue is not None
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
    async for acts in _some(stream_acts(snapshot, batch.code)):
        actions = await find_actions_in(snapshot, [act.action for act in acts])
        for act in acts:
            number, mg = counts.get(act.citizen, (0, 0))
            counts[act.citizen] = number + 1, mg + act.mg
            for problem in _act_problems(act, number + 1, by_citizen.get(act.citizen), actions):
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


def _act_problems(
    act: PooledAct, number: int, contribution: Contribution | None, actions: Mapping[ActionId, Action]
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


async def _check_transactions(snapshot: Snapshot, contributions: Sequence[Contribution], audit: Audit) -> None:
    """Hold each contribution's transfers, reversals and issuance against the book."""
    acts: dict[str, list[PooledAct]] = {}
    async for act in stream_acts(snapshot, contributions[0].batch, [one.citizen for one in contributions]):
        acts.setdefault(act.pooled, []).append(act)
    wanted = {tx for one in contributions for tx in one.transfers}
    wanted |= {reversal_id(one, number) for one in contributions for number in range(len(one.transfers))}
    wanted |= {share.transaction for one in contributions for share in (one.pool, one.own) if share}
    homes = await find_homes(snapshot, sorted(wanted))
    for one in contributions:
        for problem in _transaction_problems(one, acts, homes):
            audit.report(f"contribution {one.id}", problem)


def _transaction_problems(
    one: Contribution, acts: Mapping[str, Sequence[PooledAct]], homes: Mapping[str, Document]
) -> Iterator[str]:
    is_given = one.stage is ContributionStage.GIVEN
    for number, transfer in enumerate(one.transfers):
        home, back = homes.get(transfer), homes.get(reversal_id(one, number))
        if home is None or home["kind"] != Kind.POOL:
            yield f"its transfer {transfer} is not in the book"
            continue
        if (back is None) is not is_given:
            there = "missing" if back is None else "there"
            yield f"is {one.stage}, and the reversal of its transfer {transfer} is {there}"
        moved = [(int(p["amount"]), home["cause"].get(f"of_{place}")) for place, p in enumerate(home["postings"])]
        if is_given and moved != [(act.mg, act.earned) for act in acts.get(transfer, ())]:
            yield f"its transfer {transfer} moved other amounts than its acts have"
    for share in (one.pool, one.own):
        if share is not None and not _is_booked(share, homes.get(share.transaction)):
            yield f"its issuance {share.transaction} is not in the book as it tells"


def _is_booked(share: Share, home: Document | None) -> bool:
    return (
        home is not None
        and home["kind"] == Kind.ISSUE
        and home["cause"].get("serials") == str(share.run)
        and all(int(posting["amount"]) == share.run.grams * MG_PER_GRAM for posting in home["postings"])
    )


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
