"""Credits retired for ever: once, from what no order holds, with serials, certificate and book in one step."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64

from backend.identity.errors import ForbiddenError
from backend.identity.model import Principal, PrincipalKind
from backend.kernel.errors import IdempotencyConflictError, InvalidInputError, Text
from backend.kernel.ids import CitizenId
from backend.ledger.audit.whole import audit_ledger
from backend.ledger.model import (
    Purpose,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    credit_account,
    enterprise_owner,
    exchange_of,
    pool_owner,
)
from backend.market.pooling.model import ActsSummary, KindSum
from backend.market.retirement.errors import InsufficientCreditsError, UnknownCreditError
from backend.market.retirement.invariants import audit_retirement
from backend.market.retirement.model import Beneficiary, CreditFacts, Origin, RetirementPurpose, Retiring
from backend.market.retirement.service import Asking, Retirement
from backend.market.serials.invariants import audit_serials
from backend.market.serials.model import SerialRange
from backend.market.serials.store import list_ranges, retired_owner
from backend.mongo.transactions import Transactions
from tests.conftest import dump
from tests.factories import ADMIN, citizen
from tests.fault.test_redemption_kills import Mortal
from tests.floor import BATCH, CREDIT, give_credits, move

if TYPE_CHECKING:
    from backend.ledger.audit.findings import Audit
    from backend.ledger.model import Asset, OwnerId
    from backend.market.serials.model import Ranges
    from backend.runtime import Services

ALICE = citizen_owner(CitizenId("alice"))
STEEL = Principal(PrincipalKind.ENTERPRISE, "steelworks")
SPRING = Beneficiary("Spring Marathon", "春季马拉松")


def asking(grams: int = 1_000, **changes: Any) -> Retiring:
    """A kilogram for the spring marathon."""
    given: dict[str, Any] = {
        "credit": CREDIT,
        "grams": grams,
        "beneficiary": SPRING,
        "purpose": RetirementPurpose.EVENT,
        "statement": "Travel of all runners.",
    }
    return Retiring(**{**given, **changes})


async def audited(services: Services) -> Audit:
    """The audits of book, serials and certificates."""
    async with services.database.snapshot() as snapshot:
        audit = await audit_ledger(snapshot)
        await audit_serials(snapshot, audit)
        await audit_retirement(snapshot, audit)
        return audit


async def test_credits_leave_with_their_serials_and_a_certificate(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    made = await services.market.retirement.retire(citizen(), asking(1_200), key="retire-0001")
    assert (made.grams, made.serials, made.owner) == (1_200, (SerialRange(1, 1_200),), ALICE)
    assert (made.owner_name, made.beneficiary, made.purpose) == (None, SPRING, RetirementPurpose.EVENT)
    page = await services.ledger.get_page(ALICE)
    assert page.balance(CREDIT) == 3_800_000
    booked = await services.ledger.find_transaction(made.transaction)
    assert booked is not None
    assert booked.kind is TransactionKind.RETIRE
    assert dict(booked.cause) == {
        "certificate": made.id,
        "purpose": "EVENT",
        "words": booked.cause["words"],
        "credit": CREDIT,
        "serials": "1-1200",
    }
    retired = await list_ranges(services.database, retired_owner(made.id), CREDIT, limit=9)
    assert retired == made.serials
    assert await list_ranges(services.database, ALICE, CREDIT, limit=9) == (SerialRange(1_201, 5_000),)
    assert await services.market.retirement.find_numbered(made.number.lower()) == made
    assert await services.market.retirement.find(made.id) == made
    assert await services.market.retirement.stands(made)
    audit = await audited(services)
    assert audit.findings == []
    assert audit.balances[credit_account(Purpose.RETIRED, CREDIT)] == 1_200_000


async def test_the_certificates_number_names_programme_and_year(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    made = await services.market.retirement.retire(citizen(), asking(), key="retire-0001")
    year = services.clock.now().astimezone(services.programme.zone).year
    assert made.number.startswith(f"TH-{services.programme.code.upper()}-{year}-")
    assert len(made.number.rpartition("-")[2]) == 8


async def test_a_key_retires_once_whatever_is_sent_again(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    retirement = services.market.retirement
    first = await retirement.retire(citizen(), asking(), key="retire-0001")
    before = await dump(services)
    assert await retirement.retire(citizen(), asking(), key="retire-0001") == first
    for other in (asking(1_001), asking(statement="another"), asking(is_named=True)):
        with pytest.raises(IdempotencyConflictError):
            await retirement.retire(citizen(), other, key="retire-0001")
    assert await dump(services) == before
    # The key of another principal is another key.
    await give_credits(services, enterprise_owner("steelworks"), 2_000, first=5_001)
    assert (await retirement.retire(STEEL, asking(), key="retire-0001")).id != first.id
    assert (await audited(services)).findings == []


async def test_simultaneous_repetitions_retire_once(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    retire = services.market.retirement.retire
    made = await asyncio.gather(*(retire(citizen(), asking(), key="retire-0001") for _ in range(8)))
    assert len(set(made)) == 1
    assert (await services.ledger.get_page(ALICE)).balance(CREDIT) == 4_000_000
    assert (await audited(services)).findings == []


async def test_of_simultaneous_retirements_only_so_many_succeed_as_there_are_credits(services: Services) -> None:
    await give_credits(services, ALICE, 3_500)
    retire = services.market.retirement.retire
    made = await asyncio.gather(
        *(retire(citizen(), asking(), key=f"retire-{number:04}") for number in range(6)), return_exceptions=True
    )
    refused = [one for one in made if isinstance(one, BaseException)]
    assert len(refused) == 3
    assert all(isinstance(one, InsufficientCreditsError) for one in refused)
    assert await list_ranges(services.database, ALICE, CREDIT, limit=9) == (SerialRange(3_001, 3_500),)
    assert (await audited(services)).findings == []


async def test_an_administrator_retires_what_a_pool_has(services: Services) -> None:
    await give_credits(services, pool_owner(BATCH), 5_000)
    made = await services.market.retirement.retire(ADMIN, asking(), key="retire-0001", pool=BATCH)
    assert made.owner == pool_owner(BATCH)


@pytest.mark.parametrize(
    ("who", "pool"),
    [
        (Principal(PrincipalKind.MERCHANT, "chen"), None),
        (Principal(PrincipalKind.PARTNER, "metro"), None),
        (ADMIN, None),
        (citizen(), BATCH),
    ],
)
async def test_nobody_else_retires(services: Services, who: Principal, pool: str | None) -> None:
    await give_credits(services, pool_owner(BATCH), 5_000)
    before = await dump(services)
    with pytest.raises(ForbiddenError):
        await services.market.retirement.retire(who, asking(), key="retire-0001", pool=pool)
    assert await dump(services) == before


REFUSED: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "more than there is": ({"grams": 5_001}, InsufficientCreditsError),
    "no such credit": ({"credit": "credit:none"}, UnknownCreditError),
    "points": ({"credit": "points"}, UnknownCreditError),
    "nothing": ({"grams": 0}, InvalidInputError),
    "less than nothing": ({"grams": -1}, InvalidInputError),
    "beyond all bounds": ({"grams": 10**15 + 1}, InvalidInputError),
    "nobody": ({"beneficiary": Beneficiary("  ")}, InvalidInputError),
    "a name with a line break": ({"beneficiary": Beneficiary("a\nb")}, InvalidInputError),
    "a code with another check": ({"beneficiary": Beneficiary("a", None, "91440300MA5F0L1C2Y")}, InvalidInputError),
    "too many words": ({"statement": "x" * 501}, InvalidInputError),
    "words that turn around": ({"statement": "a\u202eb"}, InvalidInputError),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_changes_nothing(services: Services, name: str) -> None:
    changes, error = REFUSED[name]
    await give_credits(services, ALICE, 5_000)
    before = await dump(services)
    with pytest.raises(error):
        await services.market.retirement.retire(citizen(), asking(**changes), key="retire-0001")
    assert await dump(services) == before


async def test_what_an_order_holds_is_not_retired(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    hold = Transaction(
        key="order-1",
        kind=TransactionKind.HOLD,
        postings=(move(account_of(ALICE, CREDIT), exchange_of(CREDIT), CREDIT, 4_200_000),),
        expires_at=services.clock.now() + timedelta(days=1),
    )
    await services.ledger.post(hold)
    before = await dump(services)
    with pytest.raises(InsufficientCreditsError) as refused:
        await services.market.retirement.retire(citizen(), asking(801), key="retire-0001")
    assert (refused.value.needed_g, refused.value.available_g) == (801, 800)
    assert await dump(services) == before
    await services.market.retirement.retire(citizen(), asking(800), key="retire-0001")
    assert (await audited(services)).findings == []


@pytest.mark.parametrize("pool", ["", " ", "x" * 200, "a\x00b", "../etc"])
async def test_what_is_no_pool_is_refused(services: Services, pool: str) -> None:
    before = await dump(services)
    with pytest.raises(InvalidInputError) as refused:
        await services.market.retirement.retire(ADMIN, asking(), key="retire-0001", pool=pool)
    assert refused.value.field == "pool"
    assert await dump(services) == before


async def test_credits_of_others_are_not_retired(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    with pytest.raises(InsufficientCreditsError) as refused:
        await services.market.retirement.retire(STEEL, asking(), key="retire-0001")
    assert refused.value.available_g == 0


async def test_who_wishes_is_named_and_nobody_else(services: Services) -> None:
    await services.identity.register_citizens({CitizenId("alice"): "王芳"})
    await give_credits(services, ALICE, 5_000)
    retirement = services.market.retirement
    named = await retirement.retire(citizen(), asking(is_named=True), key="retire-0001")
    other = await retirement.retire(citizen(), asking(), key="retire-0002")
    assert (named.owner_name, other.owner_name) == ("王芳", None)


async def test_the_register_is_listed_and_summed(services: Services) -> None:
    retirement = services.market.retirement
    other = "zhenjiang-conservative-cycling-2026-001"
    await give_credits(services, ALICE, 5_000)
    await give_credits(services, ALICE, 5_000, batch=other)
    rows = [
        (CREDIT, 100, SPRING),
        (CREDIT, 200, Beneficiary("spring  water co.", "清泉公司")),
        (f"credit:{other}", 400, Beneficiary("Harbour", "港口")),
    ]
    made = []
    for number, (credit, grams, beneficiary) in enumerate(rows):
        asked = asking(grams, credit=credit, beneficiary=beneficiary)
        made.append(await retirement.retire(citizen(), asked, key=f"retire-{number:04}"))
        services.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
    newest = made[::-1]
    assert await retirement.list_certificates(limit=10) == newest
    assert await retirement.list_certificates(limit=1, older=(newest[0].at, newest[0].id)) == [newest[1]]
    assert await retirement.list_certificates(limit=10, credit=CREDIT) == newest[1:]
    assert await retirement.list_certificates(limit=10, beneficiary="SPRING w") == [made[1]]
    assert await retirement.list_certificates(limit=10, beneficiary="春季") == [made[0]]
    assert await retirement.list_certificates(limit=10, beneficiary=".*") == []
    assert await retirement.list_certificates(limit=10, owner=enterprise_owner("steelworks")) == []
    assert await retirement.total() == (3, 700)
    assert await retirement.total(credit=CREDIT) == (2, 300)
    assert await retirement.total(beneficiary="harbour") == (1, 400)
    assert await retirement.total(credit=CREDIT, beneficiary="none") == (0, 0)


async def test_where_credits_come_from_is_looked_up_once(services: Services) -> None:
    asked: list[tuple[Asset, Ranges]] = []
    facts = CreditFacts(
        project=Text("地铁", "Metro"), methodologies=("M-1",), vintage=2026, verifier="CQC", report="0" * 64
    )
    now = services.clock.now()
    acts = ActsSummary((KindSum("metro_ride", 3, 900), KindSum("bus_ride", 1, 100)), 2, 4, now, now)

    async def summarise(credit: Asset, ranges: Ranges) -> ActsSummary:
        asked.append((credit, ranges))
        return acts

    async def describe(_: Asset) -> CreditFacts:
        return facts

    retirement = _with(services, Asking(summarise, describe, _nobody))
    await give_credits(services, ALICE, 5_000)
    made = await retirement.retire(citizen(), asking(), key="retire-0001")
    assert (made.origin, asked) == (None, [])
    origin = Origin(facts, acts)
    assert await retirement.origin_of(made) == origin
    found = await retirement.find(made.id)
    assert found == dataclasses.replace(made, origin=origin)
    assert await retirement.origin_of(found) == origin
    assert asked == [(CREDIT, (SerialRange(1, 1_000),))]
    assert (await audited(services)).findings == []


async def _nobody(_: OwnerId) -> None:
    return None


def _with(services: Services, asking: Asking) -> Retirement:
    return Retirement(
        database=services.database,
        transactions=Transactions(services.database),
        ledger=services.ledger,
        clock=services.clock,
        zone=services.programme.zone,
        programme=services.programme.code,
        number_key=b"key",
        asking=asking,
    )


FORGED: dict[str, dict[str, Any]] = {
    "more grams": {"grams": Int64(1_001)},
    "other serials": {"serials": "2-1001"},
    "more serials": {"serials": "1-1000,2000-2001"},
    "another statement": {"statement": "something else"},
    "another beneficiary": {"beneficiary": {"name": "Others", "name_zh": None, "credit_code": None}},
    "another purpose": {"purpose": "PRODUCT"},
    "another owner": {"owner": "citizen:bob"},
    "another name": {"owner_name": "李伟"},
    "another number": {"number": "TH-ZHENJIANG-2026-00000000"},
    "another credit": {"credit": "credit:other"},
    "another transaction": {"transaction": "tx_" + "0" * 32},
}
# What the register says besides, which neither book nor serials know.
FORGED_BESIDE: dict[str, dict[str, Any]] = {
    "other names to be looked for": {"sought": ["nobody"]},
    "no name to be looked for": {"sought": []},
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_certificate_is_found(services: Services, name: str) -> None:
    await give_credits(services, ALICE, 5_000)
    made = await services.market.retirement.retire(citizen(), asking(), key="retire-0001")
    assert (await audited(services)).findings == []
    await services.database.update_one("market_certificates", {"_id": made.id}, {"$set": FORGED[name]})
    found = await services.market.retirement.find(made.id)
    assert found is not None
    assert not await services.market.retirement.stands(found)
    assert (await audited(services)).findings != []


@pytest.mark.parametrize("name", FORGED_BESIDE)
async def test_a_certificate_that_is_looked_for_otherwise_is_found(services: Services, name: str) -> None:
    await give_credits(services, ALICE, 5_000)
    made = await services.market.retirement.retire(citizen(), asking(), key="retire-0001")
    await services.database.update_one("market_certificates", {"_id": made.id}, {"$set": FORGED_BESIDE[name]})
    assert (await audited(services)).findings == [f"certificate {made.id}: is looked for by other names than it bears"]


UNREADABLE: dict[str, dict[str, Any]] = {
    "a purpose that is none": {"purpose": "FUN"},
    "no beneficiary": {"beneficiary": None},
    "a beneficiary of another form": {"beneficiary": {"nom": "x"}},
    "a time that is none": {"at": "yesterday"},
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_certificate_that_cannot_be_read_is_named(services: Services, name: str) -> None:
    await give_credits(services, ALICE, 5_000)
    made = await services.market.retirement.retire(citizen(), asking(), key="retire-0001")
    forged = {"$set": UNREADABLE[name]}
    raw = services.database.raw["market_certificates"]
    await raw.update_one({"_id": made.id}, forged, bypass_document_validation=True)
    findings = (await audited(services)).findings
    assert any(finding.startswith(f"market_certificates {made.id}: ") for finding in findings), findings


async def test_serials_that_are_none_are_found(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    made = await services.market.retirement.retire(citizen(), asking(), key="retire-0001")
    await services.database.update_one("market_certificates", {"_id": made.id}, {"$set": {"serials": "1000-1"}})
    findings = (await audited(services)).findings
    assert f"market_certificates {made.id}: cannot be read: no ranges of serials: '1000-1'" in findings


async def test_a_retirement_without_certificate_is_found(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    made = await services.market.retirement.retire(citizen(), asking(), key="retire-0001")
    await services.database.delete_one("market_certificates", {"_id": made.id})
    findings = (await audited(services)).findings
    assert f"transaction {made.transaction}: is of no certificate" in findings
    assert any("certificates tell 0 grams" in finding for finding in findings)


async def test_a_certificates_time_is_the_books(services: Services) -> None:
    await give_credits(services, ALICE, 5_000)
    made = await services.market.retirement.retire(citizen(), asking(), key="retire-0001")
    change = {"$set": {"at": made.at + timedelta(milliseconds=1)}}
    await services.database.update_one("market_certificates", {"_id": made.id}, change)
    assert (await audited(services)).findings == [f"certificate {made.id}: does not say what the book does"]


async def test_nothing_is_half_done_wherever_it_stops(services: Services) -> None:
    """Cut off at each instant it waits in turn, then sent again: one retirement, and the books balance."""
    await give_credits(services, ALICE, 500_000)
    retire = services.market.retirement.retire
    instant, waits = 0, 0
    while waits >= instant:
        instant += 1
        key = f"retire-{instant:04}"
        mortal = Mortal(retire(citizen(), asking(), key=key), instant)
        await asyncio.gather(asyncio.ensure_future(_outcome(mortal)), return_exceptions=True)
        waits = mortal.waits
        await retire(citizen(), asking(), key=key)
    assert instant > 10
    assert await services.market.retirement.total() == (instant, instant * 1_000)
    assert (await services.ledger.get_page(ALICE)).balance(CREDIT) == (500 - instant) * 1_000_000
    assert (await audited(services)).findings == []


async def _outcome(mortal: Mortal) -> object:
    return await mortal
