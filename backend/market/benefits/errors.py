"""Why benefit return is refused."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class UnknownRoundError(Refusal):
    """There is no such round."""

    round: str

    code = "UNKNOWN_ROUND"
    zh = "没有收益返还 {round}"
    en = "there is no benefit round {round}"


@dataclass(eq=False)
class RoundStageError(Refusal):
    """The round was decided on already; one that runs can be ended only until it has paid somebody."""

    round: str
    stage: str

    code = "ROUND_STAGE"
    zh = "收益返还 {round} 当前状态为 {stage}，不能再审批"
    en = "benefit round {round} is {stage} and cannot be decided on again"


@dataclass(eq=False)
class RoundOpenError(Refusal):
    """A round of that batch is not over yet; the next one waits for it."""

    round: str

    code = "ROUND_OPEN"
    zh = "该批次的收益返还 {round} 尚未完成"
    en = "benefit round {round} of that batch is not over yet"


@dataclass(eq=False)
class RateTooHighError(Refusal):
    """More points for a yuan than any round gives."""

    rate: int
    limit: int

    code = "RATE_TOO_HIGH"
    zh = "每元 {rate} 积分超过上限 {limit}"
    en = "{rate} points for a yuan are more than the limit of {limit}"


@dataclass(eq=False)
class NoSharesError(Refusal):
    """Nothing of that batch was issued to its pool, so nobody has a part in what the pool has."""

    batch: str

    code = "NO_SHARES"
    zh = "批次 {batch} 没有归集份额，无人可分"
    en = "nothing of batch {batch} was issued to its pool, so there is nobody to share with"
