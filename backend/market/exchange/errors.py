"""Why an order, or what is asked of one, cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal, Text


@dataclass(eq=False)
class UnknownInstrumentError(Refusal):
    """No such credits are traded."""

    instrument: str

    code = "UNKNOWN_INSTRUMENT"
    zh = "没有交易品种 {instrument}"
    en = "there is no instrument {instrument}"


@dataclass(eq=False)
class AlreadyListedError(Refusal):
    """The credits are traded already."""

    instrument: str

    code = "ALREADY_LISTED"
    zh = "{instrument} 已上市交易"
    en = "{instrument} is listed already"


@dataclass(eq=False)
class NotIssuedError(Refusal):
    """No such credits have been issued, so there is nothing to trade."""

    credit: str

    code = "NOT_ISSUED"
    zh = "{credit} 尚未签发，不能上市"
    en = "{credit} has not been issued and cannot be listed"


@dataclass(eq=False)
class UnknownOrderError(Refusal):
    """There is no such order, or none that the caller may touch."""

    code = "UNKNOWN_ORDER"
    zh = "没有这笔委托"
    en = "there is no such order"


@dataclass(eq=False)
class MarketClosedError(Refusal):
    """It is not the hour of this."""

    phase: Text

    code = "MARKET_CLOSED"
    zh = "当前为{phase}，不能进行该操作"
    en = "this cannot be done now: {phase}"


@dataclass(eq=False)
class MarketHaltedError(Refusal):
    """Staff have halted trading in the instrument."""

    reason: str

    code = "MARKET_HALTED"
    zh = "该品种已暂停交易：{reason}"
    en = "trading is halted: {reason}"


@dataclass(eq=False)
class NotHaltedError(Refusal):
    """There is no halt to end."""

    code = "NOT_HALTED"
    zh = "该品种未暂停交易"
    en = "trading is not halted"


@dataclass(eq=False)
class OffLotError(Refusal):
    """The quantity is no multiple of the lot."""

    quantity_g: int
    lot_g: int

    code = "OFF_LOT"
    zh = "数量 {quantity_g} 克不是 {lot_g} 克的整数倍"
    en = "{quantity_g} g is not a multiple of the lot of {lot_g} g"


@dataclass(eq=False)
class OffTickError(Refusal):
    """The price is no multiple of the tick."""

    price_fen: int
    tick_fen: int

    code = "OFF_TICK"
    zh = "价格 {price_fen} 分/吨不是 {tick_fen} 分的整数倍"
    en = "{price_fen} fen/t is not a multiple of the tick of {tick_fen} fen"


@dataclass(eq=False)
class BelowMinimumError(Refusal):
    """The quantity is less than this owner may order."""

    quantity_g: int
    minimum_g: int

    code = "BELOW_MINIMUM"
    zh = "数量 {quantity_g} 克低于最小申报量 {minimum_g} 克"
    en = "{quantity_g} g is less than the minimum of {minimum_g} g"


@dataclass(eq=False)
class OutsideBandError(Refusal):
    """The price is too far from the day's reference."""

    price_fen: int
    low_fen: int
    high_fen: int

    code = "OUTSIDE_BAND"
    zh = "价格 {price_fen} 分/吨超出当日涨跌幅范围 {low_fen}–{high_fen}"
    en = "{price_fen} fen/t is outside the day's band of {low_fen}–{high_fen}"


@dataclass(eq=False)
class BelowFloorError(Refusal):
    """The auction executes nothing below its floor."""

    price_fen: int
    floor_fen: int

    code = "BELOW_FLOOR"
    zh = "价格 {price_fen} 分/吨低于拍卖底价 {floor_fen}"
    en = "{price_fen} fen/t is below the auction's floor of {floor_fen}"


@dataclass(eq=False)
class LimitOnlyError(Refusal):
    """In a call phase only limit orders that wait are taken."""

    code = "LIMIT_ONLY"
    zh = "集合竞价阶段仅接受 GTC、GTD 限价委托"
    en = "a call phase takes only limit orders that wait (GTC, GTD)"


@dataclass(eq=False)
class PoolBuysError(Refusal):
    """Pools only sell: what they have in fen is their contributors'."""

    code = "POOL_BUYS"
    zh = "归集池只能卖出，其资金归参与者所有"
    en = "a pool only sells; its money belongs to its contributors"


@dataclass(eq=False)
class SelfTradeError(Refusal):
    """The order would cross one of the same owner while orders are collected."""

    order: str

    code = "SELF_TRADE"
    zh = "与本人委托 {order} 价格交叉"
    en = "the order would cross your own order {order}"


@dataclass(eq=False)
class TooManyOrdersError(Refusal):
    """The owner has as many orders open as one may."""

    limit: int

    code = "TOO_MANY_ORDERS"
    zh = "未完成的委托不能超过 {limit} 笔"
    en = "at most {limit} orders may be open at once"


@dataclass(eq=False)
class InsufficientMoneyError(Refusal):
    """A buyer has less money available than the order may cost, fees included."""

    needed_fen: int
    available_fen: int

    code = "INSUFFICIENT_MONEY"
    zh = "资金不足：需要 {needed_fen} 分，可用 {available_fen} 分"
    en = "not enough money: {needed_fen} fen needed, {available_fen} available"


@dataclass(eq=False)
class TooFewCreditsError(Refusal):
    """A seller has fewer credits available than they offer."""

    needed_g: int
    available_g: int

    code = "TOO_FEW_CREDITS"
    zh = "减排量不足：需要 {needed_g} 克，可用 {available_g} 克"
    en = "not enough credits: {needed_g} g needed, {available_g} g available"


@dataclass(eq=False)
class OrderClosedError(Refusal):
    """The order is filled or cancelled."""

    status: str

    code = "ORDER_CLOSED"
    zh = "委托已结束（{status}）"
    en = "the order has ended ({status})"


@dataclass(eq=False)
class CommandPendingError(Refusal):
    """Something else was asked of the order that the matcher has not done yet."""

    code = "COMMAND_PENDING"
    zh = "该委托有未处理的请求，请稍后重试"
    en = "an earlier request on this order is still waiting; try again in a moment"


@dataclass(eq=False)
class IrrevocableError(Refusal):
    """Orders of this auction cannot be changed or taken back."""

    code = "IRREVOCABLE"
    zh = "本次拍卖申报不可撤销、不可修改"
    en = "orders in this auction can be neither changed nor taken back"


@dataclass(eq=False)
class TooManyPlacingsError(Refusal):
    """More orders at once than one call may place."""

    limit: int

    code = "TOO_MANY_PLACINGS"
    zh = "一次最多提交 {limit} 笔委托"
    en = "at most {limit} orders can be placed at once"
