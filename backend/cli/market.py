"""The demo's market: rides become a batch, the batch credits, and an enterprise buys and retires a tonne of them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import zipfile
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from rich.table import Table

from backend.cli import proof
from backend.cli.client import Client, ClientError
from backend.cli.commutes import DAYS
from backend.cli.console import OUT
from backend.identity.model import Principal, PrincipalKind, StaffRole
from schemas.relay import from_global_id

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from backend.cli.city import City
    from backend.runtime import Services

LIFETIME = timedelta(hours=1)
WAIT_S = 120
AT_ONCE = 16
G_PER_KG = 1_000
TONNE_G = 1_000_000
BOUGHT_G = 1_100_000
# Fen a tonne: the mean of the national allowance market in 2025 (62.36 yuan), and around it.
REFERENCE_FEN, FIRST_FEN, SECOND_FEN, POOL_FEN, LIMIT_FEN = 6_236, 6_190, 6_210, 6_236, 6_300
DEPOSIT_FEN = 1_000_000
UNCERTAINTY_BPS = 50
SAMPLE_SIZE = 60
REPORT = "核证报告：地铁通勤减排量，抽样复核无误，按不确定性扣减 0.5 %。".encode()


@dataclass
class Trading:
    """The market's story, told step by step; everybody speaks GraphQL over HTTP."""

    http: httpx.AsyncClient
    url: str
    services: Services
    city: City
    folder: Path
    keys: itertools.count[int] = field(default_factory=itertools.count)

    async def tell(self, last_day: date) -> dict[str, Any]:
        """From consent to the verified receipt of a retirement of what was done up to that local day; the figures."""
        batch = await self._issue(await self._gather(last_day))
        instrument = await self._open_market(batch)
        buyer = await self._enterprise()
        trades = await self._trade(buyer, batch, instrument)
        returned = await self._return_benefits(batch)
        certificate = await self._retire(buyer, batch)
        return {
            "issued_g": batch["issuance"]["issuedG"],
            "contributors": batch["contributors"],
            "trades": trades,
            "benefit_fen": returned,
            "retired_g": certificate["quantityG"],
            "certificate": await self._prove(certificate),
        }

    def _staff(self, name: str, role: StaffRole) -> Client:
        return self._client(Principal(PrincipalKind.STAFF, name, frozenset({role})))

    def _client(self, principal: Principal) -> Client:
        return Client(self.http, self.url, self.services.tokens.issue(principal, LIFETIME))

    async def _do(self, client: Client, operation: str, **given: Any) -> dict[str, Any]:
        """What a mutation gave.

        Raises:
            ClientError: it was refused.
        """
        name = operation[0].lower() + operation[1:]
        key = f"demo-market-{next(self.keys):06}"
        answer: dict[str, Any] = (await client.call(operation, {"input": {"idempotencyKey": key, **given}}))[name]
        if "code" in answer:
            raise ClientError(f"{operation}: {answer['code']}: {answer['message']}")
        return answer

    async def _until(self, client: Client, batch: str, stage: str) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while True:
                found: dict[str, Any] = (await client.call("Batch", {"id": batch}))["admin"]["batch"]
                if found["stage"] == stage:
                    return found
                await asyncio.sleep(0.2)

    async def _gather(self, last_day: date) -> dict[str, Any]:
        """Everybody authorises pooling; a batch takes what they rode."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def authorise(number: int) -> None:
            async with gate:
                benefit = "POINTS" if number % 3 == 0 else "FEN"
                await self._do(self._citizen(number), "AuthorisePooling", benefit=benefit)

        await asyncio.gather(*(authorise(number) for number in range(len(self.city.citizens))))
        since, until = _period(last_day)
        opener = self._staff("demo-opener", StaffRole.ADMIN)
        opened = await self._do(
            opener,
            "OpenBatch",
            scenario="TRANSIT",
            profile=self.services.programme.profile,
            since=since.isoformat(),
            until=until.isoformat(),
            projectZh="市民地铁通勤",
            projectEn="Citizens' commuting by metro",
        )
        batch = await self._until(opener, opened["id"], "GATHERED")
        OUT.print(
            f"{batch['contributors']} citizens authorised pooling; batch [bold]{batch['batch']}[/] holds "
            f"{_kg(batch['quantifiedMg'] // 1_000)} of {batch['acts']:,} rides, none of which can be claimed again"
        )
        return batch

    def _citizen(self, number: int) -> Client:
        return self._client(Principal(PrincipalKind.CITIZEN, self.city.citizens[number]))

    async def _issue(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A verifier reads the evidence and reports; another person issues whole tonnes."""
        verifier = self._staff("demo-verifier", StaffRole.VERIFIER)
        drawn = await self._do(verifier, "DrawSample", batch=batch["id"], size=SAMPLE_SIZE)
        answer = await self.http.get(
            f"{self.url}/exports/batches/{batch['batch']}.zip", headers={"Authorization": f"Bearer {verifier.token}"}
        )
        answer.raise_for_status()
        names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
        OUT.print(
            f"a sample of {drawn['sample']['size']} rides is drawn by the hash of the batch; evidence pack, "
            f"{len(answer.content):,} bytes: {', '.join(names)}",
            highlight=False,
        )
        await self._do(
            verifier,
            "VerifyBatch",
            batch=batch["id"],
            reportHash=hashlib.sha256(REPORT).hexdigest(),
            reportName="verification-report.pdf",
            verifierOrganisation="示范核证机构",
            statement="抽样复核无误",
            adjustments=[{"bps": UNCERTAINTY_BPS, "reason": "UNCERTAINTY", "note": "里程测量的不确定性"}],
        )
        issuer = self._staff("demo-issuer", StaffRole.ADMIN)
        await self._do(issuer, "IssueBatch", batch=batch["id"])
        issued = await self._until(issuer, batch["id"], "ISSUED")
        issue = issued["issuance"]
        OUT.print(
            f"verified less {_kg(issued['verdict']['deductedMg'] // 1_000)}; issued [bold]{_kg(issue['issuedG'])}[/] "
            f"as serials 1 to {issue['issuedG']:,}, {_kg(issue['residualMg'] // 1_000)} below a tonne stay in the pool"
        )
        return issued

    async def _open_market(self, batch: dict[str, Any]) -> str:
        admin = self._staff("demo-opener", StaffRole.ADMIN)
        listed = await self._do(admin, "ListInstrument", credit=batch["credit"], referenceFen=REFERENCE_FEN)
        until = (self.services.clock.now() + LIFETIME).isoformat()
        await self._do(admin, "OpenSession", instrument=listed["id"], until=until)
        return str(listed["id"])

    async def _enterprise(self) -> Client:
        """An enterprise with money on its account: each step by two people."""
        first, second = self._staff("demo-finance", StaffRole.FINANCE), self._staff("demo-finance-2", StaffRole.FINANCE)
        given = {"name": "镇江示范化工有限公司", "creditCode": "91321100MA1DEMQ00Q", "contact": "孙丽 0511-8500 0001"}
        registered = await self._do(
            self._staff("demo-opener", StaffRole.ADMIN), "RegisterEnterprise", purpose="自愿碳中和", **given
        )
        await self._do(self._staff("demo-issuer", StaffRole.ADMIN), "ApproveEnterprise", enterprise=registered["id"])
        deposit = await self._do(
            first,
            "DepositFunds",
            account={"enterprise": registered["id"]},
            fen=DEPOSIT_FEN,
            reference="DEMO-0001",
            valueDate=self.services.clock.now().date().isoformat(),
        )
        await self._do(second, "ApproveDeposit", deposit=deposit["id"])
        named = from_global_id(registered["id"])
        assert named is not None
        return self._client(Principal(PrincipalKind.ENTERPRISE, named[1]))

    async def _trade(self, buyer: Client, batch: dict[str, Any], instrument: str) -> int:
        """Two citizens and the pool sell, the enterprise buys; how many trades."""
        sellers = [self._citizen(0), self._citizen(1)]
        for seller, price in zip(sellers, (FIRST_FEN, SECOND_FEN), strict=True):
            [held] = (await seller.call("Trading"))["viewer"]["holdings"]
            grams = held["availableG"] // G_PER_KG * G_PER_KG
            await self._order(seller, instrument, "SELL", price, grams)
        pool = self._staff("demo-opener", StaffRole.ADMIN)
        await self._order(pool, instrument, "SELL", POOL_FEN, BOUGHT_G, pool=batch["batch"])
        bought = await self._order(buyer, instrument, "BUY", LIMIT_FEN, BOUGHT_G, timeInForce="IOC")
        async with asyncio.timeout(WAIT_S):
            while not bought["filledG"]:
                bought = (await buyer.call("Order", {"id": bought["id"]}))["order"]
        table = Table("trade", "kilograms", "yuan a tonne", "value", title=f"the order book of {batch['batch']}")
        trades = (await buyer.call("Trades", {"instrument": instrument}))["trades"]["edges"]
        for edge in reversed(trades):
            trade = edge["node"]
            price, value = trade["priceFen"], trade["valueFen"]
            table.add_row(f"{trade['number']}", _kg(trade["quantityG"]), _yuan(price), _yuan(value))
        OUT.print(table)
        OUT.print(
            f"bought {_kg(bought['filledG'])} for {_yuan(bought['valueFen'])} yuan, fee {_yuan(bought['feeFen'])}"
        )
        return len(trades)

    async def _order(
        self, client: Client, instrument: str, side: str, price: int, grams: int, **more: Any
    ) -> dict[str, Any]:
        return await self._do(
            client, "PlaceOrder", instrument=instrument, side=side, priceFen=price, quantityG=grams, **more
        )

    async def _return_benefits(self, batch: dict[str, Any]) -> int:
        """What the pool sold for goes back to its contributors; how many fen."""
        first, second = self._staff("demo-finance", StaffRole.FINANCE), self._staff("demo-finance-2", StaffRole.FINANCE)
        proposed = await self._do(first, "ReturnBenefits", batch=batch["id"])
        await self._do(second, "ApproveBenefits", round=proposed["id"])
        async with asyncio.timeout(WAIT_S):
            while True:
                rounds = (await second.call("BenefitRounds", {"batch": batch["id"]}))["admin"]["benefitRounds"]["edges"]
                done = rounds[0]["node"]
                if done["stage"] == "DONE":
                    break
                await asyncio.sleep(0.2)
        OUT.print(
            f"the pool's {_yuan(done['fen'])} yuan went back to {done['citizens']} contributors: "
            f"{_yuan(done['paidFen'])} yuan in money, {_yuan(done['convertedFen'])} as {done['points']:,} points"
        )
        return int(done["fen"])

    async def _retire(self, buyer: Client, batch: dict[str, Any]) -> dict[str, Any]:
        retired = await self._do(
            buyer,
            "RetireCredits",
            credit=batch["credit"],
            quantityG=TONNE_G,
            beneficiary={"name": "Zhenjiang Demo Chemicals", "nameZh": "镇江示范化工有限公司"},
            purpose="FOOTPRINT",
            statement="二〇二六年度自愿抵销",
            named=True,
        )
        ranges = ", ".join(f"{run['first']:,}–{run['last']:,}" for run in retired["serials"])
        OUT.print(f"retired [bold]{_kg(retired['quantityG'])}[/], certificate {retired['number']}, serials {ranges}")
        return retired

    async def _prove(self, certificate: dict[str, Any]) -> str:
        """Open the public page and files, and verify the receipt like a stranger would."""
        page = f"{self.url}/certificates/{certificate['number']}"
        await self.services.sealing.seal_now()
        files = {}
        for name in ("", ".pdf", ".png", "/receipt.json"):
            answer = await self.http.get(f"{page}{name}", follow_redirects=True)
            answer.raise_for_status()
            files[name] = answer.content
        kept = self.folder / "certificate.pdf"
        kept.write_bytes(files[".pdf"])
        OUT.print(f"its page, PDF ({len(files['.pdf']):,} bytes), PNG and receipt open; the PDF is kept as {kept}")
        holds = await proof.check(self.services, self.http, self.url, files["/receipt.json"], self.folder)
        return "verified" if holds else "does not verify"


def _period(last_day: date) -> tuple[date, date]:
    """The days of commuting and the day itself, of one calendar year: the longer part where they span two."""
    since, until = last_day - timedelta(days=DAYS), last_day + timedelta(days=1)
    turn = date(until.year, 1, 1)
    if not since < turn < until:
        return since, until
    return (since, turn) if turn - since > until - turn else (turn, until)


def _kg(grams: int) -> str:
    return f"{grams // G_PER_KG:,}.{grams % G_PER_KG:03} kg"


def _yuan(fen: int) -> str:
    return f"{fen // 100:,}.{fen % 100:02}"
