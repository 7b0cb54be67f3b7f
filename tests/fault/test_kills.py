"""Mongod, and who posts into the book, killed at random instants: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backend.ledger.model import POINTS
from backend.mongo.embedded import EmbeddedMongo
from backend.process.child import ChildProcess
from backend.runtime import open_services
from tests.factories import account, earning, owner, replay
from tests.fault.book import LANES, ZONE, acknowledged, insist, step
from tests.simulation.chance import IS_NIGHTLY, seeded
from tests.simulation.reference import Reference

if TYPE_CHECKING:
    from backend.runtime import Services
    from backend.settings import Settings

KILLS = 45 if IS_NIGHTLY else 3
LONGEST_PEACE_S = 0.8
START_S = 30
PROGRAM = Path(__file__).with_name("book.py")
ROOT = PROGRAM.parents[2]
NAMES = [*(f"payer-{lane}" for lane in range(LANES)), "everybody"]


@dataclass
class Victims:
    """A mongod and the process that posts into it; both start again after each death."""

    mongo: EmbeddedMongo
    settings: Settings
    seed: int
    poster: ChildProcess | None = None

    @property
    def journal(self) -> Path:
        """What was acknowledged."""
        return self.settings.data_dir / "journal"

    def start_poster(self, *mode: str) -> ChildProcess:
        words = [self.mongo.url, self.settings.database, str(self.seed), str(self.journal), *mode]
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return ChildProcess.start(
            [sys.executable, str(PROGRAM), *words],
            env={**os.environ, "PYTHONPATH": paths},
            log=self.settings.data_dir / "poster.log",
            cwd=ROOT,
        )

    async def kill_mongod(self) -> None:
        self.mongo.kill()
        self.mongo = await asyncio.to_thread(EmbeddedMongo.start, self.mongo.data_dir, port=self.mongo.port)

    async def kill_poster(self) -> None:
        assert self.poster is not None
        self.poster.kill()
        self.poster = self.start_poster()

    async def progress(self) -> None:
        """Wait until something more is acknowledged."""
        assert self.poster is not None
        before = acknowledged(self.journal).total()
        async with asyncio.timeout(START_S):
            while acknowledged(self.journal).total() <= before:
                assert self.poster.poll() is None, (self.settings.data_dir / "poster.log").read_text()
                await asyncio.sleep(0.005)


async def test_nothing_acknowledged_is_lost_or_doubled_by_kills_at_random_instants(
    settings: Settings, tmp_path: Path
) -> None:
    chance = seeded()
    with EmbeddedMongo.start(tmp_path / "mongo") as first:
        chosen = settings.model_copy(update={"mongodb_url": first.url})
        victims = Victims(first, chosen, chance.getrandbits(32))
        try:
            async with open_services(chosen) as services:
                victims.poster = victims.start_poster()
                killed = Counter[str]()
                plan = ["mongod", "poster", "mongod"] * (KILLS // 3)
                chance.shuffle(plan)
                for victim in plan:
                    # Something must have been acknowledged since the last death; then death comes when it likes.
                    await victims.progress()
                    await asyncio.sleep(chance.random() * LONGEST_PEACE_S)
                    killed[victim] += 1
                    await (victims.kill_mongod() if victim == "mongod" else victims.kill_poster())
                await victims.progress()
                victims.poster.kill()
                print(f"killed {dict(killed)} while {acknowledged(victims.journal).total()} steps")  # noqa: T201 - a figure
                await judge(services, victims)
        finally:
            if victims.poster is not None:
                victims.poster.kill()
            victims.mongo.stop()


async def test_a_posting_cut_off_in_the_middle_holds_its_owner_up_for_seconds_only(
    services: Services, settings: Settings, mongo: EmbeddedMongo
) -> None:
    """Mongod keeps what a dead client has begun until its time is over; meanwhile others hear BUSY, then go on."""
    victims = Victims(mongo, settings, 1)
    victims.poster = victims.start_poster("stall")
    await victims.progress()
    victims.poster.kill()
    async with asyncio.timeout(START_S):
        await insist(services.ledger, earning(name="payer-0"))
    audit = await replay(services)
    assert (audit.transactions, audit.findings) == (1, [])


async def judge(services: Services, victims: Victims) -> None:
    """Each acknowledged step, and the one that was under way in each lane, happened once: as the reference has it."""
    steps = acknowledged(victims.journal)
    told = {step(victims.seed, lane, number).id for lane in range(LANES) for number in range(steps[lane])}
    stored = services.database.raw["ledger_transactions"].find({"copy_of": None}, ["_id"])
    assert told - {document["_id"] async for document in stored} == set(), "acknowledged transactions are lost"
    before = await replay(services)
    assert before.findings == []
    assert steps.total() <= before.transactions <= steps.total() + LANES
    everything = [step(victims.seed, lane, number) for lane in range(LANES) for number in range(steps[lane] + 1)]
    for lane in range(LANES):
        await insist(services.ledger, step(victims.seed, lane, steps[lane]))
    reference = Reference(ZONE)
    assert reference.post(everything, services.clock.now()) == "POSTED"
    audit = await replay(services)
    assert (audit.transactions, audit.findings) == (steps.total() + LANES, [])
    for name, page in zip(NAMES, (await services.ledger.find_pages([*map(owner, NAMES)])).values(), strict=True):
        held = {f"hold:{hold.id}": hold.amount for hold in page.holds}
        mine = [one for one, (posting, _) in reference.holds.items() if posting.from_account == account(name)]
        assert held == {one: reference.lots[one].total() for one in mine}
        assert page.balance(POINTS) - page.held(POINTS) == reference.balances[account(name)]
