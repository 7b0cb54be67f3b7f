"""What tests of settlement share: merchants, what they hand over and take back, and a model of what they are owed."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import pytest

from backend.identity.model import Principal, PrincipalKind, StaffRole
from backend.kernel.errors import Text
from backend.kernel.ids import CitizenId, TransactionId
from backend.kernel.units import Ratio
from backend.ledger.model import POINTS, Posting, Transaction, TransactionKind, account_of, merchant_owner
from backend.mongo.transactions import Transactions
from backend.outbox.relay import Relay
from backend.rewards.merchants.documents import MEMBERS, MERCHANTS, merchant_to_document
from backend.rewards.merchants.model import Contract, Cycle, Merchant, MerchantId, MerchantStage, Shop, ShopId
from backend.rewards.offers.model import Bearer, OfferId, OfferKind
from backend.rewards.settlement.service import Settlement
from backend.rewards.vouchers.documents import VOUCHERS, voucher_to_document
from backend.rewards.vouchers.model import Capture, Promise, Refund, Voucher, VoucherId, VoucherStatus
from backend.rewards.webhooks.events import WEBHOOK_TOPIC
from tests.conftest import dump
from tests.factories import account, earning, posting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from backend.outbox.relay import Item
    from backend.rewards.settlement.model import Statement, StatementId
    from backend.runtime import Services

ZONE = ZoneInfo("Asia/Shanghai")
HOUR, DAY, REST = timedelta(hours=1), timedelta(days=1), timedelta(minutes=15)
# Monday, 2 November 2026, 00:00 in Shanghai; weeks and the month end at 16:00 UTC.
BEGIN = datetime(2026, 11, 1, 16, tzinfo=UTC)
WEEK_END, MONTH_END = BEGIN + 7 * DAY, datetime(2026, 11, 30, 16, tzinfo=UTC)
MAKER, APPROVER, PAYER = (
    Principal(PrincipalKind.STAFF, name, frozenset({StaffRole.ADMIN})) for name in ("maker", "approver", "payer")
)
SHOP = ShopId("shop-1")
TEA = MerchantId("tea")
Error = TypeVar("Error", bound=Exception)
_numbers = itertools.count(1)


@dataclass
class Market:
    """Settlement over a database with merchants and vouchers in it, and what it told merchants' systems."""

    services: Services
    settlement: Settlement
    told: list[Item]

    def settling(self, **collaborators: Any) -> Settlement:
        """Another worker's settlement, with these collaborators instead of the usual ones."""
        services = self.services
        usual = {
            "database": services.database,
            "transactions": Transactions(services.database),
            "ledger": services.ledger,
            "merchants": services.rewards.merchants,
            "relay": self.relay(),
            "clock": services.clock,
            "zone": ZONE,
        }
        return Settlement(**{**usual, **collaborators})

    async def close_at(self, moment: datetime) -> int:
        """Close what is due at that moment."""
        move_to(self.services, moment)
        return await self.settlement.close_due()

    async def statements(self, merchant: MerchantId = TEA) -> list[Statement]:
        """The merchant's statements by number."""
        found = await self.settlement.list_statements(MAKER, merchant=merchant, limit=100)
        return sorted(found, key=lambda statement: statement.number)

    async def approve(self, statement: StatementId, key: str = "approve-1") -> Statement:
        """Approve it."""
        return await self.settlement.approve(APPROVER, statement, key=key)

    async def pay(self, statement: StatementId, key: str = "pay-0001") -> Statement:
        """Pay it."""
        return await self.settlement.pay(PAYER, statement, "ICBC 2026-11-0001", key=key)

    async def balances(self) -> dict[str, int]:
        """What every account outside citizens' pages holds, summed from the postings."""
        sums: Counter[str] = Counter()
        for document in (await dump(self.services))["ledger_transactions"]:
            for moved in document["postings"] if document["copy_of"] is None else ():
                sums[moved["from"]] -= moved["amount"]
                sums[moved["to"]] += moved["amount"]
        return {name: amount for name, amount in sums.items() if amount and not name.startswith("citizen:")}

    async def refused(self, error: type[Error], call: Awaitable[Any]) -> Error:
        """The refusal; nothing changed."""
        before = await dump(self.services)
        with pytest.raises(error) as caught:
            await call
        assert await dump(self.services) == before
        return caught.value

    def relay(self) -> Relay:
        """A relay that notes what merchants' systems are told."""

        async def tell(item: Item) -> None:
            self.told.append(item)

        return Relay(self.services.database, self.services.clock, {WEBHOOK_TOPIC: tell})

    def events(self) -> list[tuple[str, int, str]]:
        """What merchants' systems were told: merchant, number and kind of each statement that is ready."""
        events = [event for item in self.told for event in item.payload]
        assert {event["type"] for event in events} <= {"settlement.ready"}
        return sorted((event["merchant"], event["data"]["number"], event["data"]["kind"]) for event in events)


async def open_market(services: Services) -> Market:
    """A market whose clock stands at the beginning of a week of November."""
    move_to(services, BEGIN)
    market = Market(services, settlement=None, told=[])  # type: ignore[arg-type]
    market.settlement = market.settling()
    return market


def move_to(services: Services, moment: datetime) -> None:
    """Let it be that moment."""
    services.clock.current = moment  # type: ignore[attr-defined]


async def register(
    services: Services, name: str = "tea", cycle: Cycle = Cycle.WEEK, since: datetime = BEGIN, bps: int = 200
) -> MerchantId:
    """An approved merchant with one contract and one shop, of the owner ``<name>-owner``."""
    contract = Contract(number=1, rate=Ratio(7, 10), commission_bps=bps, cycle=cycle, budget_fen=None, valid_from=since)
    counter = Shop(
        id=SHOP,
        name=Text("人民路店", "People's Road"),
        address="人民路 1 号",
        district=services.programme.districts[0],
        lat_e6=22_540_000,
        lon_e6=114_050_000,
        phone=None,
        hours=(),
    )
    merchant = Merchant(
        id=MerchantId(name),
        name=Text("茶铺", "Tea house"),
        legal_name="深圳茶铺有限公司",
        credit_code=f"code-{name}",
        contact_name="李",
        contact_phone="0755-1234567",
        stage=MerchantStage.APPROVED,
        reason=None,
        contracts=(contract,),
        shops=(counter,),
        registered_at=since,
        registered_by="staff:root",
        version=1,
    )
    await put_merchant(services, merchant)
    member = {"_id": f"{name}-owner", "merchant": name, "name": "王", "role": "OWNER", "shop": None, "is_active": True}
    await services.database.insert_many(MEMBERS.name, [member])
    return merchant.id


async def put_merchant(services: Services, merchant: Merchant) -> None:
    """Write the merchant as it is."""
    document = merchant_to_document(merchant)
    await services.database.raw[MERCHANTS.name].replace_one({"_id": merchant.id}, document, upsert=True)


async def agree(services: Services, merchant: MerchantId, **changes: Any) -> None:
    """A further contract, like the last but for these changes."""
    found = (await services.rewards.merchants.find_merchants([merchant]))[merchant]
    last = found.contracts[-1]
    contract = dataclasses.replace(last, number=last.number + 1, **changes)
    await put_merchant(services, dataclasses.replace(found, contracts=(*found.contracts, contract)))


def owner_of(merchant: MerchantId) -> Principal:
    """The merchant's owner as principal."""
    return Principal(PrincipalKind.MERCHANT, f"{merchant}-owner")


async def sell(
    services: Services,
    merchant: MerchantId,
    points: int = 100,
    fen: int = 70,
    *,
    at: datetime,
    bps: int = 200,
    title: Text | None = None,
) -> Voucher:
    """Something handed over to a citizen who has just earned the points for it."""
    number = next(_numbers)
    citizen = f"buyer-{number}"
    offer = title or Text("一杯茶", "A cup of tea")
    taken = Transaction(
        key=f"capture-{number}",
        kind=TransactionKind.TRANSFER,
        postings=(posting(account(citizen), account_of(merchant_owner(merchant), POINTS), points),),
        cause=_cause(merchant, f"vch_{number:06}", fen, bps),
    )
    voucher = Voucher(
        id=VoucherId(f"vch_{number:06}"),
        citizen=CitizenId(citizen),
        offer=OfferId("offer-1"),
        merchant=merchant,
        promise=_promise(offer, fen, points, bps),
        number=f"N{number:07}",
        units=1,
        items=1,
        points=points,
        hold=taken.id,
        status=VoucherStatus.CAPTURED,
        created_at=at,
        day=date(2026, 11, 1),
        expires_at=at + DAY,
        captures=(Capture(transaction=taken.id, at=at, items=1, points=points, fen=fen, shop=SHOP, member=None),),
        refunds=(),
        dispute=None,
        pots=(),
        last_step=0,
        payload="",
        version=1,
    )
    await _post(services, [earning(f"earn-{number}", citizen, points), taken], at)
    await _put(services, voucher)
    return voucher


async def give_back(
    services: Services, voucher: Voucher, points: int | None = None, fen: int | None = None, *, at: datetime
) -> Voucher:
    """So much of what was captured, or all of it, given back to the citizen."""
    [capture] = voucher.captures
    points, fen = points or capture.points, capture.fen if fen is None else fen
    bps = voucher.promise.commission_bps
    reverse = Transaction(
        key=f"refund-{voucher.id}-{len(voucher.refunds)}",
        kind=TransactionKind.REVERSE,
        postings=(
            Posting(
                from_account=account_of(merchant_owner(voucher.merchant), POINTS),
                to_account=account(voucher.citizen),
                asset=POINTS,
                amount=points,
            ),
        ),
        cause=_cause(voucher.merchant, voucher.id, -fen, bps),
        corrects=capture.transaction,
    )
    refund = Refund(
        transaction=TransactionId(reverse.id), of=capture.transaction, at=at, points=points, fen=fen, by="x", reason="x"
    )
    changed = dataclasses.replace(voucher, refunds=(*voucher.refunds, refund))
    await _post(services, [reverse], at)
    await _put(services, changed)
    return changed


async def _put(services: Services, voucher: Voucher) -> None:
    document = voucher_to_document(voucher)
    await services.database.raw[VOUCHERS.name].replace_one({"_id": voucher.id}, document, upsert=True)


async def _post(services: Services, transactions: list[Transaction], at: datetime) -> None:
    await Transactions(services.database).run(lambda tx: services.ledger.post_within(tx, transactions, at=at))


def _cause(merchant: MerchantId, voucher: str, fen: int, bps: int) -> dict[str, str]:
    return {
        "merchant": merchant,
        "voucher": voucher,
        "offer": "offer-1",
        "fen": str(fen),
        "commission_bps": str(bps),
    }


def _promise(title: Text, fen: int, points: int, bps: int) -> Promise:
    return Promise(
        kind=OfferKind.VOUCHER,
        title=title,
        handover=title,
        cash_fen=0,
        refund_days=7,
        bearer=Bearer.PROGRAMME if fen else Bearer.MERCHANT,
        rate=Ratio(max(fen, 1), points),
        commission_bps=bps,
        shops=(),
        offer_revision=1,
    )


@dataclass(frozen=True)
class Happening:
    """One thing that happened at a merchant, signed: what it adds in points and fen, at which commission."""

    at: datetime
    points: int
    fen: int
    bps: int


def expected(happenings: Iterable[Happening], ends: Callable[[datetime], datetime], now: datetime) -> list[Any]:
    """What a merchant's statements must say, thought out anew: end, counts, gross, commission, net, payable."""
    statements, since, owing = [], BEGIN, 0
    happenings = list(happenings)
    while (until := ends(since)) + REST <= now:
        inside = [one for one in happenings if since <= one.at < until]
        taken, given = ([one for one in inside if (one.points > 0) is way] for way in (True, False))
        kept = 0
        for bps in {one.bps for one in inside}:
            gross = sum(one.fen for one in inside if one.bps == bps)
            whole, rest = divmod(abs(gross) * bps, 10_000)
            assert whole * 10_000 + rest == abs(gross) * bps
            kept += whole if gross > 0 else -whole
        gross = sum(one.fen for one in inside)
        left = owing + gross - kept
        if inside:
            statements.append(
                (
                    until,
                    len(taken),
                    len(given),
                    sum(one.points for one in inside),
                    gross,
                    kept,
                    gross - kept,
                    max(left, 0),
                )
            )
            owing = min(left, 0)
        since = until
    return statements
