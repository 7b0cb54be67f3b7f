"""The collections of instruments and orders and the codec of their documents; no queries.

``market_instruments``: one a credit that is traded; whoever changes its book writes it.
``market_orders``: all that is needed to rebuild the book, and what came of each order.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.ids import TransactionId
from backend.ledger.model import Asset, OwnerId
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.model import (
    Collecting,
    Command,
    CommandKind,
    CommandOutcome,
    EndReason,
    ExtraSession,
    Fees,
    Halt,
    Instrument,
    LastCommand,
    Order,
    OrderId,
    OrderKind,
    OrderStatus,
    StaffAuction,
)
from backend.mongo.collections import (
    AMOUNT,
    COUNTER,
    FLAG,
    MOMENT,
    TEXT,
    Collection,
    Index,
    nullable,
    one_of,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document

INSTRUMENTS = Collection(
    "market_instruments",
    record(
        {
            "_id": TEXT,
            "shard": COUNTER,
            "listed_at": MOMENT,
            "listed_by": TEXT,
            "reference_fen": AMOUNT,
            "day": TEXT,
            "last_fen": nullable(AMOUNT),
            "last_at": nullable(MOMENT),
            "halt": nullable(record({"by": TEXT, "reason": TEXT, "since": MOMENT})),
            "extra": nullable(record({"by": TEXT, "since": MOMENT, "until": MOMENT})),
            "auction": nullable(
                record(
                    {
                        "by": TEXT,
                        "since": MOMENT,
                        "until": MOMENT,
                        "floor_fen": nullable(AMOUNT),
                        "irrevocable": FLAG,
                    }
                )
            ),
            "collecting": nullable(
                record({"until": MOMENT, "floor_fen": nullable(AMOUNT), "price_fen": nullable(AMOUNT)})
            ),
            "taking": nullable(TEXT),
            "sequence": COUNTER,
            "trades": COUNTER,
            "revision": AMOUNT,
            "holder": TEXT,
            "turned_by": TEXT,
        }
    ),
    (Index("shard", [("shard", 1)]),),
)
COMMAND = record(
    {
        "kind": one_of(*CommandKind),
        "at": MOMENT,
        "by_staff": FLAG,
        "price_fen": nullable(AMOUNT),
        "quantity_g": nullable(AMOUNT),
    }
)
LAST_COMMAND = record({"kind": one_of(*CommandKind), "at": MOMENT, "outcome": one_of(*CommandOutcome)})
ORDERS = Collection(
    "market_orders",
    record(
        {
            "_id": TEXT,
            "instrument": TEXT,
            "owner": TEXT,
            "placed_by": TEXT,
            "side": one_of(*Side),
            "kind": one_of(*OrderKind),
            "time_in_force": one_of(*TimeInForce),
            "good_until": MOMENT,
            "created_at": MOMENT,
            "maker_bps": COUNTER,
            "taker_bps": COUNTER,
            "hold_until": MOMENT,
            "payload": TEXT,
            "price_fen": AMOUNT,
            "quantity_g": AMOUNT,
            "remaining_g": COUNTER,
            "filled_g": COUNTER,
            "numerator": COUNTER,
            "value_fen": COUNTER,
            "fee_numerator": COUNTER,
            "fee_fen": COUNTER,
            "hold": TEXT,
            "held": COUNTER,
            "holds": AMOUNT,
            "status": one_of(*OrderStatus),
            "open": FLAG,
            "reason": nullable(one_of(*EndReason)),
            "sequence": COUNTER,
            "queued_at": nullable(MOMENT),
            "turn": COUNTER,
            "command": nullable(COMMAND),
            "commands": COUNTER,
            "last_command": nullable(LAST_COMMAND),
        }
    ),
    (
        Index(
            "queue",
            [("instrument", 1), ("queued_at", 1), ("turn", 1), ("_id", 1)],
            partial={"queued_at": {"$type": "date"}},
        ),
        Index("open_until", [("instrument", 1), ("good_until", 1)], partial={"open": True}),
        Index("owner_created", [("owner", 1), ("created_at", -1), ("_id", -1)]),
    ),
)
COLLECTIONS = (INSTRUMENTS, ORDERS)


def instrument_to_document(instrument: Instrument) -> Document:
    """The instrument as stored."""
    return {
        "_id": instrument.id,
        "shard": Int64(instrument.shard),
        "listed_at": instrument.listed_at,
        "listed_by": instrument.listed_by,
        **book_of(instrument),
        **mode_of(instrument),
        "revision": Int64(instrument.revision),
        "holder": instrument.holder,
        "turned_by": instrument.turned_by,
    }


def book_of(instrument: Instrument) -> Document:
    """What the matcher changes of an instrument."""
    collecting = instrument.collecting
    return {
        "reference_fen": Int64(instrument.reference_fen),
        "day": instrument.day.isoformat(),
        "last_fen": _long(instrument.last_fen),
        "last_at": instrument.last_at,
        "collecting": None
        if collecting is None
        else {
            "until": collecting.until,
            "floor_fen": _long(collecting.floor_fen),
            "price_fen": _long(collecting.price_fen),
        },
        "taking": instrument.taking,
        "sequence": Int64(instrument.sequence),
        "trades": Int64(instrument.trades),
    }


def mode_of(instrument: Instrument) -> Document:
    """What staff change of an instrument."""
    halt, extra, auction = instrument.halt, instrument.extra, instrument.auction
    return {
        "halt": None if halt is None else {"by": halt.by, "reason": halt.reason, "since": halt.since},
        "extra": None if extra is None else {"by": extra.by, "since": extra.since, "until": extra.until},
        "auction": None
        if auction is None
        else {
            "by": auction.by,
            "since": auction.since,
            "until": auction.until,
            "floor_fen": _long(auction.floor_fen),
            "irrevocable": auction.irrevocable,
        },
    }


def instrument_from_document(document: Mapping[str, Any]) -> Instrument:
    """The stored instrument."""
    halt, extra, auction = document["halt"], document["extra"], document["auction"]
    collecting = document["collecting"]
    return Instrument(
        id=Asset(document["_id"]),
        listed_at=document["listed_at"],
        listed_by=document["listed_by"],
        reference_fen=int(document["reference_fen"]),
        day=date.fromisoformat(document["day"]),
        last_fen=_int(document["last_fen"]),
        last_at=document["last_at"],
        halt=Halt(**halt) if halt else None,
        extra=ExtraSession(**extra) if extra else None,
        auction=StaffAuction(**{**auction, "floor_fen": _int(auction["floor_fen"])}) if auction else None,
        collecting=_read_collecting(collecting) if collecting else None,
        taking=OrderId(document["taking"]) if document["taking"] else None,
        sequence=int(document["sequence"]),
        trades=int(document["trades"]),
        revision=int(document["revision"]),
        holder=document["holder"],
        turned_by=document["turned_by"],
    )


def order_to_document(order: Order) -> Document:
    """The order as stored."""
    return {
        "_id": order.id,
        "instrument": order.instrument,
        "owner": order.owner,
        "placed_by": order.placed_by,
        "side": order.side.value,
        "kind": order.kind.value,
        "time_in_force": order.time_in_force.value,
        "good_until": order.good_until,
        "created_at": order.created_at,
        "maker_bps": Int64(order.fees.maker_bps),
        "taker_bps": Int64(order.fees.taker_bps),
        "hold_until": order.hold_until,
        "payload": order.payload,
        **standing(order),
        "queued_at": order.queued_at,
        "turn": Int64(order.turn),
        "command": command_to_document(order.command),
        "commands": Int64(order.commands),
    }


def standing(order: Order) -> Document:
    """What the matcher changes of an order, but for what is asked of it."""
    return {
        "price_fen": Int64(order.price_fen),
        "quantity_g": Int64(order.quantity_g),
        "remaining_g": Int64(order.remaining_g),
        "filled_g": Int64(order.filled_g),
        "numerator": Int64(order.numerator),
        "value_fen": Int64(order.value_fen),
        "fee_numerator": Int64(order.fee_numerator),
        "fee_fen": Int64(order.fee_fen),
        "hold": order.hold,
        "held": Int64(order.held),
        "holds": Int64(order.holds),
        "status": order.status.value,
        "open": order.is_open,
        "reason": order.reason.value if order.reason else None,
        "sequence": Int64(order.sequence),
        "last_command": _last_to_document(order.last_command),
    }


def command_to_document(command: Command | None) -> Document | None:
    """What is asked of an order, as stored in it."""
    if command is None:
        return None
    return {
        "kind": command.kind.value,
        "at": command.at,
        "by_staff": command.by_staff,
        "price_fen": _long(command.price_fen),
        "quantity_g": _long(command.quantity_g),
    }


def _last_to_document(last: LastCommand | None) -> Document | None:
    return None if last is None else {"kind": last.kind.value, "at": last.at, "outcome": last.outcome.value}


def order_from_document(document: Mapping[str, Any]) -> Order:
    """The stored order."""
    command, last, reason = document["command"], document["last_command"], document["reason"]
    return Order(
        id=OrderId(document["_id"]),
        instrument=Asset(document["instrument"]),
        owner=OwnerId(document["owner"]),
        placed_by=document["placed_by"],
        side=Side(document["side"]),
        kind=OrderKind(document["kind"]),
        time_in_force=TimeInForce(document["time_in_force"]),
        price_fen=int(document["price_fen"]),
        quantity_g=int(document["quantity_g"]),
        remaining_g=int(document["remaining_g"]),
        good_until=document["good_until"],
        created_at=document["created_at"],
        fees=Fees(int(document["maker_bps"]), int(document["taker_bps"])),
        hold=TransactionId(document["hold"]),
        held=int(document["held"]),
        hold_until=document["hold_until"],
        payload=document["payload"],
        holds=int(document["holds"]),
        filled_g=int(document["filled_g"]),
        numerator=int(document["numerator"]),
        value_fen=int(document["value_fen"]),
        fee_numerator=int(document["fee_numerator"]),
        fee_fen=int(document["fee_fen"]),
        status=OrderStatus(document["status"]),
        reason=EndReason(reason) if reason else None,
        sequence=int(document["sequence"]),
        queued_at=document["queued_at"],
        turn=int(document["turn"]),
        command=_read_command(command) if command else None,
        commands=int(document["commands"]),
        last_command=LastCommand(CommandKind(last["kind"]), last["at"], CommandOutcome(last["outcome"]))
        if last
        else None,
    )


def _read_collecting(document: Mapping[str, Any]) -> Collecting:
    return Collecting(document["until"], _int(document["floor_fen"]), _int(document["price_fen"]))


def _read_command(document: Mapping[str, Any]) -> Command:
    return Command(
        kind=CommandKind(document["kind"]),
        at=document["at"],
        by_staff=document["by_staff"],
        price_fen=_int(document["price_fen"]),
        quantity_g=_int(document["quantity_g"]),
    )


def _long(value: int | None) -> Int64 | None:
    return None if value is None else Int64(value)


def _int(value: int | None) -> int | None:
    return None if value is None else int(value)
