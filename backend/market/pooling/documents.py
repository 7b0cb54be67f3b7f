"""The codec of consents, batches, contributions and pooled acts; no queries."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.actions.model import RuleRef
from backend.kernel.errors import Text
from backend.kernel.ids import ActionId, CitizenId, TransactionId
from backend.market.pooling.model import (
    Adjustment,
    AdjustmentReason,
    Batch,
    BatchCode,
    BatchStage,
    Benefit,
    Consent,
    Contribution,
    ContributionStage,
    Cursor,
    Ending,
    Issue,
    PooledAct,
    Sample,
    Share,
    TakenOut,
    Totals,
    Verdict,
)
from backend.market.serials.model import SerialRange
from backend.rules.model import Category

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document


def consent_to_document(consent: Consent) -> Document:
    """The consent as stored; ``used`` counts the transactions that relied on it."""
    scenarios = consent.scenarios
    return {
        "_id": consent.id,
        "citizen": consent.citizen,
        "number": Int64(consent.number),
        "scenarios": sorted(scenario.value for scenario in scenarios) if scenarios is not None else None,
        "benefit": consent.benefit.value,
        "wording": Int64(consent.wording),
        "since": consent.since,
        "until": consent.until,
        "current": consent.until is None,
        "used": Int64(0),
    }


def consent_from_document(document: Mapping[str, Any]) -> Consent:
    """The stored consent."""
    scenarios = document["scenarios"]
    return Consent(
        citizen=CitizenId(document["citizen"]),
        number=int(document["number"]),
        scenarios=frozenset(map(Category, scenarios)) if scenarios is not None else None,
        benefit=Benefit(document["benefit"]),
        wording=int(document["wording"]),
        since=document["since"],
        until=document["until"],
    )


def batch_to_document(batch: Batch) -> Document:
    """The batch as stored."""
    totals, cursor = batch.totals, batch.cursor
    return {
        "_id": batch.code,
        "number": Int64(batch.number),
        "scenario": batch.scenario.value,
        "profile": batch.profile,
        "vintage": Int64(batch.vintage),
        "since": batch.since.isoformat(),
        "until": batch.until.isoformat(),
        "project": batch.project._asdict(),
        "opener": batch.opener,
        "opened_at": batch.opened_at,
        "opening": batch.opening,
        "stage": batch.stage.value,
        "version": Int64(batch.version),
        "contents": Int64(batch.contents),
        "content": batch.content,
        "hashed": Int64(batch.hashed),
        "totals": {
            "contributions": Int64(totals.contributions),
            "acts": Int64(totals.acts),
            "mg": Int64(totals.mg),
        },
        "cursor": cursor._asdict(),
        "passed": [place._asdict() for place in batch.passed],
        "gathered_at": batch.gathered_at,
        "sample": _sample_to_document(batch.sample) if batch.sample else None,
        "verdict": _verdict_to_document(batch.verdict) if batch.verdict else None,
        "ending": _ending_to_document(batch.ending) if batch.ending else None,
        "issue": _issue_to_document(batch.issue) if batch.issue else None,
    }


def batch_from_document(document: Mapping[str, Any]) -> Batch:
    """The stored batch."""
    sample, verdict, ending, issue = (document[name] for name in ("sample", "verdict", "ending", "issue"))
    return Batch(
        code=BatchCode(document["_id"]),
        number=int(document["number"]),
        scenario=Category(document["scenario"]),
        profile=document["profile"],
        vintage=int(document["vintage"]),
        since=date.fromisoformat(document["since"]),
        until=date.fromisoformat(document["until"]),
        project=Text(**document["project"]),
        opener=document["opener"],
        opened_at=document["opened_at"],
        opening=document["opening"],
        stage=BatchStage(document["stage"]),
        version=int(document["version"]),
        contents=int(document["contents"]),
        content=document["content"],
        hashed=int(document["hashed"]),
        totals=Totals(**{name: int(value) for name, value in document["totals"].items()}),
        cursor=Cursor(**document["cursor"]),
        passed=tuple(Cursor(**place) for place in document.get("passed", ())),
        gathered_at=document["gathered_at"],
        sample=_sample_from_document(sample) if sample else None,
        verdict=_verdict_from_document(verdict) if verdict else None,
        ending=Ending(**ending) if ending else None,
        issue=_issue_from_document(issue) if issue else None,
    )


def _sample_to_document(sample: Sample) -> Document:
    return {
        "size": Int64(sample.size),
        "seed": sample.seed,
        "actions": list(sample.actions),
        "drawn_by": sample.drawn_by,
        "drawn_at": sample.drawn_at,
    }


def _sample_from_document(document: Mapping[str, Any]) -> Sample:
    actions = tuple(map(ActionId, document["actions"]))
    return Sample(**{**document, "size": int(document["size"]), "actions": actions})


def _verdict_to_document(verdict: Verdict) -> Document:
    return {
        "verifier": verdict.verifier,
        "organisation": verdict.organisation,
        "report_hash": verdict.report_hash,
        "report_name": verdict.report_name,
        "statement": verdict.statement,
        "adjustments": [
            {
                "action": one.action,
                "bps": Int64(one.bps) if one.bps is not None else None,
                "reason": one.reason.value,
                "note": one.note,
                "mg": Int64(one.mg),
            }
            for one in verdict.adjustments
        ],
        "content": verdict.content,
        "shares": verdict.shares,
        "at": verdict.at,
    }


def _verdict_from_document(document: Mapping[str, Any]) -> Verdict:
    adjustments = tuple(
        Adjustment(
            action=ActionId(one["action"]) if one["action"] is not None else None,
            bps=int(one["bps"]) if one["bps"] is not None else None,
            reason=AdjustmentReason(one["reason"]),
            note=one["note"],
            mg=int(one["mg"]),
        )
        for one in document["adjustments"]
    )
    return Verdict(**{**document, "adjustments": adjustments})


def _ending_to_document(ending: Ending) -> Document:
    return {"by": ending.by, "at": ending.at, "reason": ending.reason, "is_verdict": ending.is_verdict}


def _issue_to_document(issue: Issue) -> Document:
    return {
        "issuer": issue.issuer,
        "begun_at": issue.begun_at,
        "grams": Int64(issue.grams),
        "residual_mg": Int64(issue.residual_mg),
        "methodologies": list(issue.methodologies),
        "issued_at": issue.issued_at,
    }


def _issue_from_document(document: Mapping[str, Any]) -> Issue:
    return Issue(
        issuer=document["issuer"],
        begun_at=document["begun_at"],
        grams=int(document["grams"]),
        residual_mg=int(document["residual_mg"]),
        methodologies=tuple(document["methodologies"]),
        issued_at=document["issued_at"],
    )


def contribution_to_document(contribution: Contribution) -> Document:
    """The contribution as stored."""
    document = {
        "_id": contribution.id,
        "batch": contribution.batch,
        "citizen": contribution.citizen,
        "vintage": Int64(contribution.vintage),
        "benefit": contribution.benefit.value,
        "given_at": contribution.given_at,
        "acts": Int64(contribution.acts),
        "pool_mg": Int64(contribution.pool_mg),
        "own_mg": Int64(contribution.own_mg),
        "transfers": list(contribution.transfers),
        "taken_out": [_taken_out_to_document(one) for one in contribution.taken_out],
        "stage": contribution.stage.value,
        "deducted_mg": None if contribution.deducted_mg is None else Int64(contribution.deducted_mg),
        "residual_mg": None if contribution.residual_mg is None else Int64(contribution.residual_mg),
    }
    for name, share in (("pool", contribution.pool), ("own", contribution.own)):
        if share is not None:
            first, last = Int64(share.run.first), Int64(share.run.last)
            document[name] = {"first": first, "last": last, "transaction": share.transaction}
    return document


def contribution_from_document(document: Mapping[str, Any]) -> Contribution:
    """The stored contribution."""
    deducted, residual = document["deducted_mg"], document["residual_mg"]
    return Contribution(
        batch=BatchCode(document["batch"]),
        citizen=CitizenId(document["citizen"]),
        vintage=int(document["vintage"]),
        benefit=Benefit(document["benefit"]),
        given_at=document["given_at"],
        acts=int(document["acts"]),
        pool_mg=int(document["pool_mg"]),
        own_mg=int(document["own_mg"]),
        transfers=tuple(map(TransactionId, document["transfers"])),
        taken_out=tuple(map(_taken_out_from_document, document.get("taken_out", ()))),
        stage=ContributionStage(document["stage"]),
        deducted_mg=None if deducted is None else int(deducted),
        residual_mg=None if residual is None else int(residual),
        pool=_share_from_document(document.get("pool")),
        own=_share_from_document(document.get("own")),
    )


def _taken_out_to_document(one: TakenOut) -> Document:
    return {
        "action": one.action,
        "number": Int64(one.number),
        "mg": Int64(one.mg),
        "earned": one.earned,
        "pooled": one.pooled,
    }


def _taken_out_from_document(document: Mapping[str, Any]) -> TakenOut:
    return TakenOut(
        action=ActionId(document["action"]),
        number=int(document["number"]),
        mg=int(document["mg"]),
        earned=TransactionId(document["earned"]),
        pooled=TransactionId(document["pooled"]),
    )


def _share_from_document(document: Mapping[str, Any] | None) -> Share | None:
    if document is None:
        return None
    run = SerialRange(int(document["first"]), int(document["last"]))
    return Share(run=run, transaction=TransactionId(document["transaction"]))


def pooled_act_to_document(act: PooledAct) -> Document:
    """The pooled act as stored."""
    return {
        "_id": act.action,
        "batch": act.batch,
        "citizen": act.citizen,
        "number": Int64(act.number),
        "kind": act.kind,
        "mg": Int64(act.mg),
        "occurred_at": act.occurred_at,
        "rule": {"code": act.rule.code, "version": Int64(act.rule.version)},
        "tier": act.tier,
        "evidence": act.evidence,
        "earned": act.earned,
        "pooled": act.pooled,
    }


def pooled_act_from_document(document: Mapping[str, Any]) -> PooledAct:
    """The stored pooled act."""
    return PooledAct(
        action=ActionId(document["_id"]),
        batch=BatchCode(document["batch"]),
        citizen=CitizenId(document["citizen"]),
        number=int(document["number"]),
        kind=document["kind"],
        mg=int(document["mg"]),
        occurred_at=document["occurred_at"],
        rule=RuleRef(document["rule"]["code"], int(document["rule"]["version"])),
        tier=document["tier"],
        evidence=document["evidence"],
        earned=TransactionId(document["earned"]),
        pooled=TransactionId(document["pooled"]),
    )
