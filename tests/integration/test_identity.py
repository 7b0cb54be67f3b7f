"""Who is bound to what: conflicts are refused, nothing personal is stored in clear."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backend.actions.errors import NotBoundError
from backend.identity.errors import AlreadyBoundError, SourceTakenError
from backend.identity.model import ExternalId, Partner
from backend.kernel.errors import InvalidInputError
from backend.kernel.ids import CitizenId
from tests.conftest import dump
from tests.factories import bus_ride, partner

if TYPE_CHECKING:
    from backend.runtime import Services

ALICE, BOB = CitizenId("alice"), CitizenId("bob")
CARD = ExternalId("metro-afc", "8812-0042-7719")
METRO = Partner("metro", "Metro", ("metro-afc", "metro-qr"))


async def test_registering_again_changes_nothing(services: Services) -> None:
    assert await services.identity.register_citizens({ALICE: "Alice", BOB: "Bob"}, district="京口区") == 2
    before = await dump(services)
    assert await services.identity.register_citizens({ALICE: "Another"}) == 0
    assert await dump(services) == before
    found = await services.identity.find_citizens([ALICE, CitizenId("nobody")])
    assert {citizen: person.display_name for citizen, person in found.items()} == {ALICE: "Alice"}
    assert found[ALICE].district == "京口区"


@pytest.mark.parametrize("name", ["", " alice", "-alice", "a" * 65, "市民", "a/b", "alice\n"])
async def test_a_malformed_id_is_refused_and_registers_nobody(services: Services, name: str) -> None:
    before = await dump(services)
    with pytest.raises(InvalidInputError):
        await services.identity.register_citizens({ALICE: "Alice", CitizenId(name): "x"})
    with pytest.raises(InvalidInputError):
        await services.identity.register_partner(Partner(name, "x", ("fine",)))
    with pytest.raises(InvalidInputError):
        await services.identity.register_partner(Partner("fine", "x", ("fine", name)))
    assert await dump(services) == before


async def test_a_source_has_one_owner(services: Services) -> None:
    await services.identity.register_partner(METRO)
    before = await dump(services)
    await services.identity.register_partner(METRO)
    with pytest.raises(SourceTakenError) as caught:
        await services.identity.register_partner(Partner("bikes", "Bikes", ("bike-share", "metro-qr")))
    assert caught.value.source == "metro-qr"
    assert await dump(services) == before
    owners = await services.identity.find_source_owners(["metro-afc", "metro-qr", "bike-share"])
    assert owners == {"metro-afc": "metro", "metro-qr": "metro"}


async def test_of_partners_that_register_a_source_at_once_one_gets_it(services: Services) -> None:
    async def register(number: int) -> bool:
        try:
            await services.identity.register_partner(Partner(f"p{number}", "x", ("shared",)))
        except SourceTakenError:
            return False
        return True

    won = await asyncio.gather(*(register(number) for number in range(12)))
    assert sum(won) == 1
    assert await services.identity.find_source_owners(["shared"]) == {"shared": f"p{won.index(True)}"}


async def test_a_card_is_one_citizens(services: Services) -> None:
    await services.identity.bind({CARD: ALICE})
    await services.identity.bind({CARD: ALICE})
    with pytest.raises(AlreadyBoundError) as caught:
        await services.identity.bind({CARD: BOB, ExternalId("metro-afc", "other"): BOB})
    assert caught.value.source == "metro-afc"
    # The free one is bound, the taken one stays whose it was.
    same_number = ExternalId("bike-share", CARD.value)
    bound = await services.identity.find_bound([CARD, ExternalId("metro-afc", "other"), same_number])
    assert bound == {CARD: ALICE, ExternalId("metro-afc", "other"): BOB}
    pairs = {(ALICE, "metro-afc"), (ALICE, "bike-share")}
    assert await services.identity.find_bound_pairs(pairs) == {(ALICE, "metro-afc")}


async def test_of_citizens_who_bind_a_card_at_once_one_gets_it(services: Services) -> None:
    async def bind(number: int) -> bool:
        try:
            await services.identity.bind({CARD: CitizenId(f"c{number}")})
        except AlreadyBoundError:
            return False
        return True

    won = await asyncio.gather(*(bind(number) for number in range(12)))
    assert sum(won) == 1
    assert await services.identity.find_bound([CARD]) == {CARD: f"c{won.index(True)}"}


async def test_no_card_number_is_stored_anywhere(services: Services) -> None:
    await services.identity.register_partner(METRO)
    await services.identity.bind({CARD: ALICE})
    ride = bus_ride(source="metro-afc", external_id=CARD.value)
    action = await services.actions.record(partner(), ride, key="key-0001")
    assert action.citizen == ALICE
    assert CARD.value not in str(await dump(services))
    with pytest.raises(NotBoundError):
        await services.actions.record(partner(), bus_ride("r2", source="metro-afc", external_id="none"), key="key-0002")
