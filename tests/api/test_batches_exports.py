"""Evidence packs and the register of serials over HTTP: by whom, with hashes that fit, naming nobody."""

from __future__ import annotations

import asyncio
import base64
import csv
import hashlib
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette

from backend.exports import batch_routes
from backend.market.pooling.packing import Packed
from backend.market.serials.store import SERIALS, retired_owner
from schemas.context import authenticate, preferred_language
from tests.api.batch_documents import EVERYBODY, send
from tests.integration.batching import BEN, PROJECT, REPORT, Floor

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.kernel.clock import ManualClock
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio
KILO = 1_000_000


@pytest.fixture
async def floor(services: Services, clock: ManualClock) -> Floor:
    return await Floor(services, clock).open("alice", "bob")


async def fetch(api: Api, path: str, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return await api.http.get(path, headers=headers)


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


async def test_the_pack_holds_the_batch_and_its_hashes(api: Api, floor: Floor, token_for: Callable[..., str]) -> None:
    acts = await floor.rides("alice", 6, 20)
    await floor.ride("bob", 3, evidence="=cmd|'/c calc'!A1")
    batch = await floor.gathered()
    drawn = (await send(api, floor, "drawSample", token_for("verifier", "vera"), batch.code)).result
    answers = [
        await fetch(api, f"/exports/batches/{batch.code}.zip", token_for(role, "vera"))
        for role in ("verifier", "admin")
    ]
    answer = answers[0]
    assert answer.status_code == 200
    digest = hashlib.sha256(answer.content).digest()
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    assert answer.headers["cache-control"] == "private, no-store"
    assert int(answer.headers["content-length"]) == len(answer.content)
    # The same bytes whoever asks, whenever.
    assert answers[1].content == answer.content
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert list(files) == ["contributions.csv", "acts.csv", "sample.csv", "batch.json", "MANIFEST"]
    manifest = dict(line.split("  ")[::-1] for line in files.pop("MANIFEST").decode().splitlines())
    assert manifest == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    told = json.loads(files["batch.json"])
    assert (told["batch"], told["project"]["zh"], told["mg"]) == (batch.code, PROJECT.zh, 29 * KILO)
    assert told["content_sha256"] == manifest["acts.csv"] == drawn["sample"]["seed"]
    listed = rows(files["acts.csv"])
    assert [(row["action"], row["mg"], row["rule"], row["methodology"]) for row in listed[:2]] == [
        (act.id, str(act.reduction_mg), "R-TRAM", "SZ-TRAVEL-2021") for act in acts
    ]
    assert listed[2]["evidence"] == "'=cmd|'/c calc'!A1"
    assert acts[0].settlement is not None
    assert listed[0]["earning"] == acts[0].settlement.transaction
    given = rows(files["contributions.csv"])
    assert [(row["acts"], row["mg"], row["pool_mg"]) for row in given] == [
        ("2", str(26 * KILO), str(10 * KILO)),
        ("1", str(3 * KILO), str(3 * KILO)),
    ]
    assert {row["contributor"] for row in given} == {row["contributor"] for row in listed}
    # Nobody is named, not even by what follows from a name alone.
    guessed = [one.encode() for name in ("alice", "bob") for one in await _guessable(floor, name)]
    assert not any(name in content for name in (b"alice", b"bob", *guessed) for content in files.values())
    sampled = [row["action"] for row in rows(files["sample.csv"])]
    assert len(sampled) == 2
    assert set(sampled) < {row["action"] for row in listed}


async def _guessable(floor: Floor, name: str) -> list[str]:
    """Ids that whoever knows a citizen's id can work out."""
    [given] = await floor.contributions(name)
    return [given.id, *given.transfers, given.citizen]


class Files:
    """Files of batches, some of which come only when they are let go."""

    def __init__(self, slow: str) -> None:
        self.slow = slow
        self.waiting = asyncio.Semaphore(0)
        self.go = asyncio.Event()

    async def _made(self, what: str) -> Packed:
        if what == self.slow:
            self.waiting.release()
            await self.go.wait()
        return Packed(io.BytesIO(b"x"), 1, hashlib.sha256(b"x").digest())

    async def pack(self, _principal: object, _code: str) -> Packed:
        return await self._made("pack")

    async def register(self) -> Packed:
        return await self._made("register")


@pytest.mark.parametrize("slow", ["pack", "register"])
async def test_packs_and_the_register_keep_nobody_from_the_other(
    services: Services, token_for: Callable[..., str], slow: str
) -> None:
    paths = {"pack": "/exports/batches/a.zip", "register": "/exports/registry.csv"}
    files: Any = Files(slow)
    app = Starlette(routes=batch_routes(files, services.tokens, authenticate, preferred_language))
    headers = {"authorization": f"Bearer {token_for('verifier', 'vera')}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers) as client:
        asked = [asyncio.create_task(client.get(paths[slow])) for _ in range(3)]
        for _ in range(2):
            await files.waiting.acquire()
        for what, path in paths.items():
            if what != slow:
                assert (await asyncio.wait_for(client.get(path), 30)).status_code == 200
        assert not any(task.done() for task in asked)
        files.go.set()
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200, 200, 200]


async def test_who_gets_no_pack(api: Api, floor: Floor, token_for: Callable[..., str]) -> None:
    await floor.rides("alice", 6)
    batch = await floor.gathered()
    for who, person in EVERYBODY.items():
        if who not in {"verifier", "administrator"}:
            answer = await fetch(api, f"/exports/batches/{batch.code}.zip", token_for(*person) if person else None)
            assert answer.status_code == (403 if person else 401), who
    missing = await fetch(api, "/exports/batches/none.zip", token_for("verifier", "vera"))
    assert (missing.status_code, missing.json()["code"]) == (404, "UNKNOWN_BATCH")


async def test_the_register_tells_everybody_who_holds_which_serials(api: Api, floor: Floor) -> None:
    await floor.rides("alice", 600, 200)
    await floor.rides("bob", 300)
    batch = await floor.gathered()
    await floor.verified(batch.code)
    await floor.pooling.batches.issue(BEN, batch.code, key=floor.key())
    # Nothing is told before everything is issued.
    assert rows((await fetch(api, "/exports/registry.csv", None)).content) == []
    await floor.pooling.batches.work_off()
    answer = await fetch(api, "/exports/registry.csv", None)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = rows(answer.content)
    [alice], [bob] = await floor.contributions("alice"), await floor.contributions("bob")
    pool = alice.pool_g + bob.pool_g
    assert [(row["holder"], row["first_serial"], row["last_serial"], row["grams"]) for row in lines] == [
        ("pool", "1", str(pool), str(pool)),
        ("citizen", str(pool + 1), str(pool + alice.own_g), str(alice.own_g)),
        ("citizen", str(pool + alice.own_g + 1), "1000000", str(bob.own_g)),
    ]
    assert {row["report_sha256"] for row in lines} == {REPORT.hash}
    assert {(row["batch"], row["project_zh"], row["methodologies"], row["status"]) for row in lines} == {
        (batch.code, PROJECT.zh, "SZ-TRAVEL-2021", "active")
    }
    assert b"alice" not in answer.content
    first = {"credit": batch.credit, "first": 1}
    await floor.services.database.raw[SERIALS.name].update_one(first, {"$set": {"owner": retired_owner("cert-1")}})
    [line, *_] = rows((await fetch(api, "/exports/registry.csv", None)).content)
    assert (line["holder"], line["status"], line["grams"]) == ("retired", "retired", str(pool))
