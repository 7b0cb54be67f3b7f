"""provenance: the acts behind a spend and the fate of an earning, and to whom nothing of it is told."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backend.kernel.ids import SHARD_COUNT, ShardNumber
from backend.ledger.model import MINTS, POINTS, OwnerId, Transaction, TransactionKind, account_of
from backend.mongo.transactions import Transactions
from tests.api.documents import RECORD, ride, written
from tests.conftest import dump
from tests.factories import earning, paying, posting, reversal, shop, spending, transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.mongo.transactions import Tx
    from backend.runtime import Services
    from tests.api.client import Api

pytestmark = pytest.mark.anyio

ALL_SHARDS = [ShardNumber(number) for number in range(SHARD_COUNT)]
PROVENANCE = """
query ($id: ID!, $asset: Asset! = POINTS) {
  provenance(transactionId: $id, asset: $asset) {
    origins { transactionId kind actionId amount }
    uses { transactionId kind to amount }
    unspent
  }
}
"""
GIFT = transfer("gift", amount=50)
BREAD = spending("bread", payer="bob", amount=60)
MISSING = f"tx_{0:032}"
NOTHING: dict[str, Any] = {"origins": [], "uses": [], "unspent": 0}


def origin(transaction: str, kind: str, action: str | None, amount: int) -> dict[str, Any]:
    """A row of origins."""
    return {"transactionId": transaction, "kind": kind, "actionId": action, "amount": amount}


def use(transaction: Transaction, to: str, amount: int) -> dict[str, Any]:
    """A row of uses."""
    return {"transactionId": transaction.id, "kind": transaction.kind.value, "to": to, "amount": amount}


async def rides(api: Api, services: Services, name: str, token: str, count: int) -> list[tuple[str, str]]:
    """So many rides of the citizen, a day apart, 40 points and 40 g each: act and transaction of each, in order."""
    done = []
    for number in range(count):
        when = services.clock.now() - timedelta(days=9 - number)
        await api.post(RECORD, ride(f"{name}-{number}", occurredAt=written(when)), token=token)
        assert await services.settling.settle(ALL_SHARDS) == 1
        document = await services.database.find_one("actions", {"ref": f"{name}-{number}"})
        assert document is not None
        done.append((document["_id"], document["settlement"]["transaction"]))
    return done


async def ask(api: Api, transaction: str, token: str | None, **variables: Any) -> Any:
    """What provenance answers."""
    return (await api.post(PROVENANCE, {"id": transaction, **variables}, token=token)).result


async def test_a_spend_leads_to_the_acts_and_an_act_to_the_spend(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    token = token_for("citizen", "alice")
    (act_1, earn_1), (act_2, earn_2) = await rides(api, services, "alice", token, 2)
    first, last = spending("first", amount=50), spending("last", amount=20)
    refund = reversal(first, "refund", (15,))
    for transaction in (first, refund, last):
        await services.ledger.post(transaction)
    before = await dump(services)
    assert await ask(api, first.id, token) == {
        "origins": [origin(earn_1, "EARN", act_1, 40), origin(earn_2, "EARN", act_2, 10)],
        "uses": [],
        "unspent": 0,
    }
    assert await ask(api, earn_1, token) == {
        "origins": [origin(earn_1, "EARN", act_1, 40)],
        "uses": [use(first, shop(), 40), use(refund, "citizen:alice:points", -5)],
        "unspent": 5,
    }
    assert await ask(api, refund.id, token) == {
        "origins": [origin(earn_1, "EARN", act_1, 5), origin(earn_2, "EARN", act_2, 10)],
        "uses": [],
        "unspent": 15,
    }
    assert (await ask(api, last.id, token))["origins"] == [origin(earn_2, "EARN", act_2, 20)]
    assert await ask(api, earn_1, token, asset="CO2E_RECOGNISED") == {
        "origins": [origin(earn_1, "EARN", act_1, 40_000)],
        "uses": [],
        "unspent": 40_000,
    }
    assert await ask(api, earn_1, token, asset="CO2E_QUANTIFIED") == NOTHING
    assert await dump(services) == before


async def test_giver_and_receiver_each_see_their_part_and_staff_sees_both(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    alice, bob, staff = token_for("citizen", "alice"), token_for("citizen", "bob"), token_for("reviewer", "rita")
    (act_1, earn_1), (act_2, earn_2) = await rides(api, services, "alice", alice, 2)
    [(act_3, earn_3)] = await rides(api, services, "bob", bob, 1)
    for transaction in (GIFT, BREAD):
        await services.ledger.post(transaction)
    givers = [origin(earn_1, "EARN", act_1, 40), origin(earn_2, "EARN", act_2, 10)]
    own, spent = origin(earn_3, "EARN", act_3, 40), [use(BREAD, shop(), 20)]
    received = origin(GIFT.id, "TRANSFER", None, 50)
    assert await ask(api, GIFT.id, alice) == {**NOTHING, "origins": givers}
    assert await ask(api, GIFT.id, bob) == {"origins": [received], "uses": spent, "unspent": 30}
    assert await ask(api, GIFT.id, staff) == {"origins": givers, "uses": spent, "unspent": 30}
    assert (await ask(api, BREAD.id, bob))["origins"] == [own, {**received, "amount": 20}]
    assert (await ask(api, BREAD.id, staff))["origins"] == [own, {**givers[0], "amount": 20}]
    # Whom alice gave to is her memory's business; the book's answer names no other citizen.
    assert (await ask(api, earn_1, alice))["uses"] == [use(GIFT, "citizen:*:points", 40)]
    assert (await ask(api, earn_1, staff))["uses"] == [use(GIFT, "citizen:bob:points", 40)]
    for shown in (await ask(api, GIFT.id, bob), await ask(api, BREAD.id, bob)):
        assert not {act_1, act_2, earn_1, earn_2} & set(str(shown).split("'"))
        assert "alice" not in str(shown)
    for shown in (await ask(api, GIFT.id, alice), await ask(api, earn_1, alice), await ask(api, earn_2, alice)):
        assert not {BREAD.id, act_3, earn_3} & set(str(shown).split("'"))
        assert "bob" not in str(shown)


@pytest.mark.parametrize(
    ("role", "subject", "sees"),
    [
        ("citizen", "alice", True),
        ("citizen", "bob", True),
        ("citizen", "carol", False),
        ("citizen", "root", False),
        ("partner", "alice", False),
        ("merchant", "alice", False),
        ("merchant", "shop", False),
        ("enterprise", "alice", False),
        ("admin", "root", True),
        ("reviewer", "rita", True),
        ("verifier", "vera", True),
    ],
)
async def test_who_is_not_concerned_is_told_what_is_told_of_nothing(
    role: str, subject: str, *, sees: bool, api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    for transaction in (earning(), GIFT):
        await services.ledger.post(transaction)
    before = await dump(services)
    token = token_for(role, subject)
    foreign, missing = [await api.post(PROVENANCE, {"id": one}, token=token) for one in (GIFT.id, MISSING)]
    assert (foreign.result is not None) is sees
    assert missing.result is None
    assert sees or foreign.body == missing.body
    assert await dump(services) == before


async def test_an_enterprise_sees_its_part(api: Api, services: Services, token_for: Callable[..., str]) -> None:
    firm = account_of(OwnerId("enterprise:steelworks"), POINTS)
    granted = posting(MINTS[POINTS], firm, 70)
    prize = Transaction(key="prize", kind=TransactionKind.EARN, postings=(granted,))
    sale = paying("sale", firm, account_of(OwnerId("citizen:alice"), POINTS), 30)
    for transaction in (prize, sale):
        await services.ledger.post(transaction)
    found = await ask(api, prize.id, token_for("enterprise", "steelworks"))
    assert found == {
        "origins": [origin(prize.id, "EARN", None, 70)],
        "uses": [use(sale, "citizen:*:points", 30)],
        "unspent": 40,
    }
    assert await ask(api, prize.id, token_for("enterprise", "brickworks")) is None


async def test_nobody_is_told_to_sign_in(api: Api, services: Services) -> None:
    await services.ledger.post(earning())
    answer = await api.post(PROVENANCE, {"id": earning().id})
    assert answer.body["data"] == {"provenance": None}
    assert answer.refusal == ("UNAUTHENTICATED", "sign in first (no token)")


async def test_more_rows_than_an_answer_holds_are_refused_in_the_readers_language(
    api: Api, services: Services, token_for: Callable[..., str]
) -> None:
    grants = [earning(f"grant-{number}", amount=1) for number in range(1_001)]

    async def body(tx: Tx) -> None:
        await services.ledger.post_within(tx, grants, at=services.clock.now())

    await Transactions(services.database).run(body)
    most, more = spending("most", amount=1_000), reversal(spending("most", amount=1_000), "back")
    every = spending("every", amount=1_001)
    token = token_for("citizen", "alice")
    for transaction in (most, more, every):
        await services.ledger.post(transaction)
    assert len((await ask(api, most.id, token))["origins"]) == 1_000
    for language, message in (("en", "the trace takes more than 1000 rows"), ("zh-CN", "溯源超过 1000 行")):
        answer = await api.post(PROVENANCE, {"id": every.id}, token=token, language=language)
        assert answer.body["data"] == {"provenance": None}
        assert answer.refusal == ("TRACE_TOO_LARGE", message)
