"""Checks of neutralisations beside their certificates, at one instant: each has ended in one retirement, or in none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.market.neutrality.model import NeutralStage
from backend.market.neutrality.rules import certificate_of, retiring
from backend.market.neutrality.store import stream_neutralisations
from backend.market.retirement.rules import payload_of
from backend.market.retirement.store import find_at

if TYPE_CHECKING:
    from backend.ledger.audit.findings import Audit
    from backend.market.neutrality.model import Neutralisation
    from backend.market.retirement.model import Certificate
    from backend.mongo.client import Snapshot


async def audit_neutrality(snapshot: Snapshot, audit: Audit) -> None:
    """Check all neutralisations of the snapshot; findings go to ``audit``."""
    async for one in stream_neutralisations(snapshot):
        certificate = await find_at(snapshot, certificate_of(one.id))
        problem = _problem(one, certificate)
        if problem:
            audit.report(f"neutralisation {one.id}", problem)


def _problem(one: Neutralisation, certificate: Certificate | None) -> str | None:
    if (one.certificate is not None) is not (one.stage is NeutralStage.RETIRED):
        return f"is {one.stage} and names {one.certificate} as its certificate"
    if one.stage is NeutralStage.RETIRED and certificate is None:
        return "is retired without a certificate"
    # Between the retirement and the note of it a neutralisation is BOUGHT.
    if certificate is not None and one.stage in {NeutralStage.BUYING, NeutralStage.FAILED}:
        return f"is {one.stage} and has a certificate"
    if certificate is not None and certificate.payload != payload_of(one.owner, retiring(one)):
        return "has a certificate that says something else"
    return None
