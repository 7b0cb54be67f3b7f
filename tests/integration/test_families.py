"""Families: one a citizen, eight citizens one, codes that work once; a refusal changes nothing, nor does a race."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from backend.identity.errors import (
    AlreadyInFamilyError,
    FamilyFullError,
    ForbiddenError,
    InvitationInvalidError,
    NoFamilyError,
    NotInFamilyError,
    NotTransferableError,
    TooManyInvitationsError,
    TooManyTriesError,
)
from backend.identity.families import MAX_INVITATIONS_A_DAY, MAX_MEMBERS, MAX_TRIES_A_DAY, Families
from backend.identity.model import Principal, PrincipalKind
from backend.kernel.base32 import ALPHABET, CODE_LENGTH, read_code
from backend.kernel.crypto import load_lookup_key
from backend.kernel.errors import BusyError, DomainError, IdempotencyConflictError, InvalidInputError
from backend.kernel.ids import CitizenId
from backend.ledger.errors import InsufficientFundsError
from backend.ledger.model import POINTS, citizen_owner
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.factories import ADMIN, citizen, earning, replay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backend.kernel.clock import ManualClock
    from backend.ledger.model import Page
    from backend.runtime import Services

pytestmark = pytest.mark.anyio

ALICE, BOB, CAROL = citizen("alice"), citizen("bob"), citizen("carol")
CROWD = [citizen(f"c{number:02}") for number in range(20)]
MILLISECOND = timedelta(milliseconds=1)
KEY = "key-0001"


def families_of(services: Services, *, transferable: bool) -> Families:
    """The services' families as in a programme that lets points be given, or does not."""
    return Families(
        database=services.database,
        transactions=Transactions(services.database),
        identity=services.identity,
        ledger=services.ledger,
        clock=services.clock,
        zone=services.programme.zone,
        lookup_key=load_lookup_key(services.settings.keys_dir / "lookup.key"),
        transferable=transferable,
    )


@pytest.fixture
async def families(services: Services) -> Families:
    """Families where points may be given; everybody here is registered."""
    people = {CitizenId(who.id): who.id.title() for who in (ALICE, BOB, CAROL, *CROWD)}
    await services.identity.register_citizens(people)
    return families_of(services, transferable=True)


async def member_ids(families: Families, who: Principal = ALICE) -> list[str]:
    """Who belongs to the citizen's family, in order."""
    family = await families.find_family(CitizenId(who.id))
    return [member.id for member in family.members] if family else []


async def join(families: Families, who: Principal, host: Principal = ALICE, key: str = KEY) -> None:
    """Let the host invite and the guest join."""
    invitation = await families.invite(host, key=f"for-{who.id}-{key}")
    await families.join(who, invitation.code, key=f"join-{key}")


async def refused(services: Services, asked: Awaitable[Any], error: type[DomainError], *, counts: bool = False) -> None:
    """Assert that this is refused and changes nothing (but for the count of tries)."""
    before = await dump(services)
    with pytest.raises(error):
        await asked
    after = await dump(services)
    if counts:
        before["family_counts"] = after["family_counts"] = []
    assert after == before


async def test_a_family_is_founded_joined_and_left(services: Services, families: Families, clock: ManualClock) -> None:
    assert await families.find_family(CitizenId("alice")) is None
    founded = await families.found_family(ALICE, key=KEY)
    assert [member.display_name for member in founded.members] == ["Alice"]
    invitation = await families.invite(ALICE, key=KEY)
    assert invitation.expires_at == clock.now() + timedelta(hours=24)
    clock.advance(timedelta(hours=24) - MILLISECOND)
    joined = await families.join(BOB, invitation.code, key=KEY)
    assert (joined.id, [member.id for member in joined.members]) == (founded.id, ["alice", "bob"])
    clock.advance(MILLISECOND)
    await join(families, CAROL, host=BOB)
    assert await member_ids(families) == ["alice", "bob", "carol"]

    left_at = clock.now()
    assert await families.leave(ALICE, key=KEY) == left_at
    assert (await member_ids(families), await member_ids(families, BOB)) == ([], ["bob", "carol"])
    await families.leave(BOB, key=KEY)
    await families.leave(CAROL, key=KEY)
    left = await dump(services)
    assert [left[name] for name in ("families", "family_members", "family_invitations")] == [[], [], []]
    await families.found_family(BOB, key="key-0002")
    assert await member_ids(families, BOB) == ["bob"]


async def test_the_same_key_again_answers_the_same_and_changes_nothing(
    services: Services, families: Families, clock: ManualClock
) -> None:
    async def again(ask: Callable[[], Awaitable[Any]]) -> Any:
        first, before = await ask(), await dump(services)
        clock.advance(timedelta(minutes=3))
        assert await ask() == first
        assert await dump(services) == before
        return first

    await again(lambda: families.found_family(ALICE, key=KEY))
    code = (await again(lambda: families.invite(ALICE, key=KEY))).code
    await again(lambda: families.join(BOB, code, key=KEY))
    # The code is told again even after it was used, but it lets nobody else in.
    await again(lambda: families.invite(ALICE, key=KEY))
    await refused(services, families.join(CAROL, code, key=KEY), InvitationInvalidError, counts=True)
    await again(lambda: families.leave(BOB, key=KEY))
    await refused(services, families.join(BOB, code, key=KEY), NoFamilyError)


async def test_a_key_is_one_citizens_and_one_operations_and_names_one_code(
    services: Services, families: Families
) -> None:
    await families.found_family(ALICE, key=KEY)
    codes = {(await families.invite(ALICE, key=f"{KEY}{number}")).code for number in range(5)}
    assert len(codes) == 5
    first, second, *_ = sorted(codes)
    await families.join(BOB, first, key=KEY)
    await refused(services, families.join(BOB, second, key=KEY), IdempotencyConflictError)
    await families.join(CAROL, second, key=KEY)


async def test_a_code_may_be_typed_as_people_do(services: Services, families: Families) -> None:
    assert not set("ILOU") & set(ALPHABET)
    assert [read_code(text) for text in ("oil-4 5s7z", "OIL45S7", "OIL45S7ZZ", "UUUUUUUU")] == ["01145S7Z", *[None] * 3]
    await families.found_family(ALICE, key=KEY)
    typed: list[Callable[[str], str]] = [
        str.lower,
        lambda code: f"{code[:4]}-{code[4:]}",
        lambda code: f" {code[:4]} {code[4:]} ",
        lambda code: code.replace("0", "o").replace("1", "l"),
        lambda code: code.replace("0", "O").replace("1", "i"),
    ]
    for guest, change in zip(CROWD, typed, strict=False):
        code = (await families.invite(ALICE, key=f"invite-{guest.id}")).code
        assert len(code) == CODE_LENGTH
        assert set(code) <= set(ALPHABET)
        # Only its keyed hash is stored.
        assert code not in str(await dump(services))
        await families.join(guest, change(code), key=KEY)
    assert len(await member_ids(families)) == 1 + len(typed)


async def test_a_code_that_leads_nowhere_is_refused_without_saying_why(
    services: Services, families: Families, clock: ManualClock
) -> None:
    await families.found_family(ALICE, key=KEY)
    await join(families, BOB)
    lost = (await families.invite(BOB, key="of-bob-1")).code
    await families.leave(BOB, key=KEY)
    old = (await families.invite(ALICE, key="old-code")).code
    clock.advance(timedelta(hours=24))
    for wrong in ("", "0000000", "000000000", "UUUUUUUU", "零零零零零零零零", "\x00" * 8):
        await refused(services, families.join(CAROL, wrong, key=KEY), InvitationInvalidError, counts=True)
    for wrong in ("00000000", lost, old):
        await refused(services, families.join(CAROL, wrong, key=KEY), InvitationInvalidError, counts=True)


async def test_who_has_a_family_gets_no_other_and_who_has_none_cannot_leave(
    services: Services, families: Families
) -> None:
    await refused(services, families.invite(ALICE, key=KEY), NoFamilyError)
    await refused(services, families.leave(ALICE, key=KEY), NoFamilyError)
    await families.found_family(ALICE, key=KEY)
    await families.found_family(BOB, key=KEY)
    code = (await families.invite(BOB, key=KEY)).code
    await refused(services, families.found_family(ALICE, key="key-0002"), AlreadyInFamilyError)
    await refused(services, families.join(ALICE, code, key=KEY), AlreadyInFamilyError)
    await refused(services, families.join(BOB, code, key=KEY), AlreadyInFamilyError)


async def test_a_family_has_eight_members(services: Services, families: Families, clock: ManualClock) -> None:
    await families.found_family(ALICE, key=KEY)
    spare = (await families.invite(ALICE, key=KEY)).code
    for guest in CROWD[: MAX_MEMBERS - 1]:
        await join(families, guest)
    assert len(await member_ids(families)) == 8
    await refused(services, families.invite(ALICE, key="key-0002"), FamilyFullError)
    await refused(services, families.join(BOB, spare, key=KEY), FamilyFullError, counts=True)
    await families.leave(CROWD[3], key=KEY)
    clock.advance(MILLISECOND)
    # The refused code was not used up.
    await families.join(BOB, spare, key=KEY)
    assert (await member_ids(families))[-1] == "bob"


async def test_a_day_has_so_many_invitations_and_so_many_tries(
    services: Services, families: Families, clock: ManualClock
) -> None:
    await families.found_family(ALICE, key=KEY)
    for number in range(MAX_INVITATIONS_A_DAY):
        await families.invite(ALICE, key=f"code-{number:04}")
    await refused(services, families.invite(ALICE, key="one-more"), TooManyInvitationsError)
    for number in range(MAX_TRIES_A_DAY):
        with pytest.raises(InvitationInvalidError):
            await families.join(BOB, "00000000", key=f"try-{number:05}")
    good = (await families.invite(ALICE, key="code-0000")).code
    await refused(services, families.join(BOB, good, key="one-more"), TooManyTriesError)
    # Others may, and so may they on the next local day.
    await families.join(CAROL, good, key=KEY)
    clock.advance(timedelta(days=1))
    code = (await families.invite(ALICE, key="one-more")).code
    await families.join(BOB, code, key="one-more")


async def test_families_are_for_citizens(services: Services, families: Families) -> None:
    others = [Principal(kind, "alice") for kind in PrincipalKind if kind is not PrincipalKind.CITIZEN]
    for who in (*others, ADMIN):
        for asked in all_operations(families, who, KEY):
            await refused(services, asked, ForbiddenError)


def all_operations(families: Families, who: Principal, key: str) -> list[Awaitable[Any]]:
    """Every operation on families, as yet unasked."""
    return [
        families.found_family(who, key=key),
        families.invite(who, key=key),
        families.join(who, "00000000", key=key),
        families.leave(who, key=key),
        families.give_points(who, CitizenId("bob"), 1, key=key),
    ]


async def test_whoever_is_not_registered_founds_and_joins_nothing(services: Services, families: Families) -> None:
    for asked in (families.found_family, partial(families.join, code="00000000")):
        await refused(services, asked(citizen("ghost"), key=KEY), ForbiddenError)


async def test_a_bad_key_is_refused(services: Services, families: Families) -> None:
    for key in ("", "1234567", "k" * 65, "key 00001", "幂等键幂等键幂等键"):
        for asked in all_operations(families, ALICE, key):
            await refused(services, asked, InvalidInputError)


async def outcomes(asked: list[Callable[[], Awaitable[Any]]], *allowed: type[DomainError]) -> int:
    """How many succeed of those asked at once, again where it is too busy; the others must be refused so."""

    async def ask_patiently(ask: Callable[[], Awaitable[Any]]) -> bool:
        while True:
            try:
                await ask()
            except BusyError:
                continue
            except allowed:
                return False
            return True

    return sum(await asyncio.gather(*map(ask_patiently, asked)))


async def sizes_agree(services: Services) -> list[int]:
    """The families' sizes, each of which is the number of its members."""
    found = await dump(services)
    members = [member["family"] for member in found["family_members"]]
    sizes = {family["_id"]: family["size"] for family in found["families"]}
    assert sizes == {family: members.count(family) for family in set(members)}
    return sorted(sizes.values())


async def test_twenty_who_join_at_once_fill_the_family_and_no_more(services: Services, families: Families) -> None:
    await families.found_family(ALICE, key=KEY)
    codes = [(await families.invite(ALICE, key=f"code-{number:04}")).code for number in range(len(CROWD))]
    asked = [partial(families.join, who, code, key=KEY) for who, code in zip(CROWD, codes, strict=True)]
    assert await outcomes(asked, FamilyFullError) == MAX_MEMBERS - 1
    assert await sizes_agree(services) == [8]
    # Each who joined used a code up, and nobody else did.
    assert len((await dump(services))["family_invitations"]) == len(CROWD) - (MAX_MEMBERS - 1)


async def test_a_code_that_twelve_use_at_once_lets_one_in(services: Services, families: Families) -> None:
    await families.found_family(ALICE, key=KEY)
    code = (await families.invite(ALICE, key=KEY)).code
    asked = [partial(families.join, who, code, key=KEY) for who in CROWD[:12]]
    assert await outcomes(asked, InvitationInvalidError) == 1
    assert await sizes_agree(services) == [2]


async def test_who_founds_and_joins_at_once_has_one_family(services: Services, families: Families) -> None:
    codes = []
    for host in CROWD[:6]:
        await families.found_family(host, key=KEY)
        codes.append((await families.invite(host, key=KEY)).code)
    asked: list[Callable[[], Awaitable[Any]]] = [
        partial(families.found_family, BOB, key=f"found-{number:02}") for number in range(6)
    ]
    asked += [partial(families.join, BOB, code, key=f"join-{code}") for code in codes]
    assert await outcomes(asked, AlreadyInFamilyError) == 1
    assert sum(await sizes_agree(services)) == 7


async def test_members_who_leave_while_others_join_leave_the_books_in_order(
    services: Services, families: Families
) -> None:
    await families.found_family(ALICE, key=KEY)
    for guest in CROWD[:6]:
        await join(families, guest)
    codes = [(await families.invite(ALICE, key=f"code-{number:04}")).code for number in range(6)]
    asked: list[Callable[[], Awaitable[Any]]] = [partial(families.leave, who, key=KEY) for who in (ALICE, *CROWD[:6])]
    asked += [partial(families.join, who, code, key=KEY) for who, code in zip(CROWD[6:12], codes, strict=True)]
    # Alice's codes lead nowhere once she has left.
    assert await outcomes(asked, InvitationInvalidError, FamilyFullError) >= 7
    assert len(await sizes_agree(services)) <= 1


async def page_of(services: Services, who: Principal) -> Page:
    """The citizen's position in the book."""
    return await services.ledger.get_page(citizen_owner(CitizenId(who.id)))


async def together(services: Services, families: Families, points: int = 100) -> None:
    """Alice and Bob in one family; Alice has points."""
    await families.found_family(ALICE, key=KEY)
    await join(families, BOB)
    await services.ledger.post(earning(amount=points))


async def test_points_are_given_with_their_expiry_and_once(services: Services, families: Families) -> None:
    await together(services, families)
    lots = (await page_of(services, ALICE)).lots
    first = await families.give_points(ALICE, CitizenId("bob"), 30, key=KEY, message="生日快乐 🎂")
    assert await families.give_points(ALICE, CitizenId("bob"), 30, key=KEY, message="生日快乐 🎂") == first
    alice, bob = await page_of(services, ALICE), await page_of(services, BOB)
    assert (alice.balance(POINTS), bob.balance(POINTS)) == (70, 30)
    assert [lot.expires_at for lot in bob.lots] == [lot.expires_at for lot in lots]
    for changed in ({"points": 31}, {"message": None}, {"message": "别的"}, {"to": CitizenId("carol")}):
        given: dict[str, Any] = {"to": CitizenId("bob"), "points": 30, "key": KEY, "message": "生日快乐 🎂"}
        with pytest.raises(IdempotencyConflictError) as caught:
            await families.give_points(ALICE, **{**given, **changed})
        assert caught.value.key == KEY
    # What was given stays given: the same request again is answered though they are no family any more.
    await families.leave(BOB, key=KEY)
    assert await families.give_points(ALICE, CitizenId("bob"), 30, key=KEY, message="生日快乐 🎂") == first
    assert (await replay(services)).findings == []


async def test_points_stay_in_the_family_and_in_the_programme(services: Services, families: Families) -> None:
    await together(services, families)
    await families.found_family(CAROL, key=KEY)
    for stranger in ("carol", "c00", "nobody-at-all"):
        gift = families.give_points(ALICE, CitizenId(stranger), 1, key=KEY)
        await refused(services, gift, NotInFamilyError)
    await refused(services, families.give_points(CROWD[0], CitizenId("c01"), 1, key=KEY), NotInFamilyError)
    await refused(services, families.give_points(ALICE, CitizenId("bob"), 101, key=KEY), InsufficientFundsError)
    strict = families_of(services, transferable=False)
    await refused(services, strict.give_points(ALICE, CitizenId("bob"), 1, key=KEY), NotTransferableError)


NO_GIFTS: list[dict[str, Any]] = [
    *({"points": points} for points in (0, -1, 10**12 + 1)),
    *({"to": CitizenId(to)} for to in ("alice", "bob:points", "")),
    *({"message": message} for message in ("", "  ", "x" * 61, "a\nb", "\u202e99", "a\u200bb", "\ud800")),
]


async def test_a_gift_that_means_nothing_is_refused(services: Services, families: Families) -> None:
    await together(services, families)
    for given in NO_GIFTS:
        gift = families.give_points(ALICE, **{"to": CitizenId("bob"), "points": 1, "key": KEY, **given})
        await refused(services, gift, InvalidInputError)


async def test_a_gift_that_is_sent_twenty_times_at_once_is_one(services: Services, families: Families) -> None:
    await together(services, families)
    same = [families.give_points(ALICE, CitizenId("bob"), 7, key=KEY) for _ in range(20)]
    assert len(set(await asyncio.gather(*same))) == 1
    assert (await page_of(services, ALICE)).balance(POINTS) == 93
    different = [
        partial(families.give_points, ALICE, CitizenId("bob"), 7, key=f"gift-{number:04}") for number in range(20)
    ]
    assert await outcomes([*different], InsufficientFundsError) == 93 // 7
    assert (await page_of(services, ALICE)).balance(POINTS) == 93 % 7
    assert (await replay(services)).findings == []
