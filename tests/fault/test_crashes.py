"""Killing any process or server at any instant loses no acknowledged action and credits none twice (invariant 7)."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from tests.fault.conftest import scene
from tests.simulation.chance import IS_NIGHTLY

if TYPE_CHECKING:
    from backend.stack import Stack

ACTIONS = 5_000
FEWER = 2_000
CHUNK = 100
KILLS = 21 if IS_NIGHTLY else 3
LONGEST_PEACE_S = 2.0


async def test_a_worker_killed_three_times_credits_every_action_once(stack: Stack, seed: int) -> None:
    async with scene(stack, seed) as playing:
        recording = asyncio.create_task(playing.recorder.record(ACTIONS))
        # In the middle of settling,
        credited = await playing.credited_beyond(0)
        playing.kill("worker")
        # as soon as it takes tasks again,
        await playing.ready_again("worker", 2)
        playing.kill("worker")
        # and in the middle of what it left.
        await playing.credited_beyond(max(credited, await playing.credited()))
        playing.kill("worker")
        await recording
        await playing.check(ACTIONS)


async def test_a_valkey_lost_in_the_middle_costs_nothing(stack: Stack, seed: int) -> None:
    async with scene(stack, seed) as playing:
        assert stack.servers.valkey is not None
        recording = asyncio.create_task(playing.recorder.record(FEWER))
        await playing.recorded(FEWER // 5)
        stack.servers.valkey.kill()
        await playing.recorded(FEWER // 2)
        await recording
        await playing.check(FEWER)
        assert playing.recorder.retries == 0  # recording does not need it


async def test_a_mongod_killed_while_recording_keeps_every_acknowledged_action(stack: Stack, seed: int) -> None:
    async with scene(stack, seed) as playing:
        assert stack.servers.mongo is not None
        recording = asyncio.create_task(playing.recorder.record(FEWER))
        for share in (4, 2):
            await playing.recorded(FEWER // share)
            stack.servers.mongo.kill()
        await recording
        await playing.check(FEWER)


async def test_an_api_killed_while_recording_keeps_every_acknowledged_action(stack: Stack, seed: int) -> None:
    async with scene(stack, seed) as playing:
        recording = asyncio.create_task(playing.recorder.record(FEWER))
        await playing.recorded(FEWER // 3)
        playing.kill("api")
        await recording
        await playing.check(FEWER)
        assert playing.recorder.retries > 0


async def test_kills_at_random_instants_cost_no_action_and_credit_none_twice(stack: Stack, seed: int) -> None:
    chance = Random(seed)
    victims = ["mongod", "worker", "api"] * (KILLS // 3)
    chance.shuffle(victims)
    async with scene(stack, seed) as playing:
        killing = asyncio.create_task(playing.killed(victims, chance, LONGEST_PEACE_S))
        count = 0
        while not killing.done():
            await playing.recorder.record(CHUNK)
            count += CHUNK
        await killing
        await playing.check(count)
