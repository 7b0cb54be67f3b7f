"""From rides to a certificate: credits of a real batch, whose acts, project and verifier the certificate tells."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import httpx
import pypdfium2

from backend.app import create_app
from backend.ledger.audit.whole import audit_ledger
from backend.ledger.model import credit_asset
from backend.ledger.sealing import receipts
from backend.market.retirement.invariants import audit_retirement
from backend.market.retirement.model import Beneficiary, RetirementPurpose, Retiring
from tests.factories import ADMIN
from tests.integration.batching import PROJECT, REPORT, Floor

if TYPE_CHECKING:
    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

ORIGIN = """
query ($number: String!) {
  certificate(number: $number) {
    origin { facts { project vintage verifier reportHash } acts { acts citizens kinds { kind name acts quantityG } } }
  }
}
"""


async def test_a_certificate_tells_the_acts_behind_its_serials(
    services: Services, clock: ManualClock, api: Api
) -> None:
    floor = await Floor(services, clock).open("alice", "bob", "carol")
    for name, kgs in (("alice", (600, 200)), ("bob", (4, 296)), ("carol", (250,))):
        await floor.rides(name, *kgs)
    gathered = await floor.gathered()
    await floor.verified(gathered.code)
    batch = await floor.issued(gathered.code)
    _, pooled_mg = await floor.pool(batch.code)
    grams = pooled_mg // 1_000
    asked = Retiring(
        credit=credit_asset(batch.code),
        grams=grams,
        beneficiary=Beneficiary("Harbour", "港口"),
        purpose=RetirementPurpose.PRODUCT,
        statement="",
    )
    made = await services.market.retirement.retire(ADMIN, asked, key="retire-0001", pool=batch.code)
    assert made.grams == grams > 0
    await services.sealing.seal_now()

    [told] = (await api.post(ORIGIN, {"number": made.number})).result.values()
    assert told["facts"] == {
        "project": PROJECT.en,
        "vintage": batch.vintage,
        "verifier": REPORT.organisation,
        "reportHash": REPORT.hash,
    }
    [kind] = told["acts"]["kinds"]
    assert (kind["kind"], kind["quantityG"]) == ("tram", grams)
    assert (told["acts"]["citizens"], kind["acts"]) == (3, told["acts"]["acts"])

    page = (await api.http.get(f"/certificates/{made.number}?lang=zh")).text
    for said in (PROJECT.zh, REPORT.organisation, REPORT.hash, "3 位市民", "产品碳中和", "港口"):
        assert said in page
    pdf = await api.http.get(f"/certificates/{made.number}.pdf?lang=en")
    assert pdf.headers["cache-control"] == "private, max-age=60"
    # Where it prints our own address it is everybody's, and as it is sealed and its origin known, it stays.
    settings = services.settings.model_copy(update={"public_url": "https://tanhui.example"})
    app = create_app(dataclasses.replace(services, settings=settings))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inner") as http,
    ):
        kept = await http.get(f"/certificates/{made.number}.pdf?lang=en")
    assert kept.headers["cache-control"] == "public, max-age=86400"
    with pypdfium2.PdfDocument(pdf.content) as document:
        text = document[0].get_textpage().get_text_bounded()
    assert PROJECT.en in text
    assert "3 citizens" in text
    receipt = await api.http.get(f"/certificates/{made.number}/receipt.json")
    assert receipts.verify(receipt.content).failures == ()
    assert await floor.audit() == []
    async with services.database.snapshot() as snapshot:
        audit = await audit_ledger(snapshot)
        # Acts are behind what was earned, which is not asked here.
        audit.findings.clear()
        await audit_retirement(snapshot, audit)
    assert audit.findings == []
