"""Why pooling refuses."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class UnknownBatchError(Refusal):
    """There is no such batch, or none that the caller may see."""

    code = "UNKNOWN_BATCH"
    zh = "没有这个批次"
    en = "there is no such batch"


@dataclass(eq=False)
class WrongBatchStageError(Refusal):
    """The batch does not stand so that this could be done; ``standing`` is its stage."""

    standing: str

    code = "BATCH_STAGE"
    zh = "批次当前状态为 {standing}，不能执行该操作"
    en = "the batch is {standing}, so this cannot be done"


@dataclass(eq=False)
class NotAuthorisedError(Refusal):
    """The citizen has no authorisation in force that could be withdrawn."""

    code = "NOT_AUTHORISED"
    zh = "您目前没有生效的归集授权"
    en = "you have no authorisation to pool in force"


@dataclass(eq=False)
class NoContributionError(Refusal):
    """The citizen gave nothing to that batch, or has it back already."""

    code = "NO_CONTRIBUTION"
    zh = "您在该批次中没有减排量"
    en = "you have nothing in that batch"


@dataclass(eq=False)
class ContributionBoundError(Refusal):
    """The batch is verified: nothing of it is given back any more."""

    code = "CONTRIBUTION_BOUND"
    zh = "该批次已核证，减排量不能再退回"
    en = "the batch is verified; nothing of it can be given back any more"


@dataclass(eq=False)
class EmptyBatchError(Refusal):
    """Nobody gave anything to the batch."""

    code = "EMPTY_BATCH"
    zh = "批次中没有减排量"
    en = "the batch holds nothing"


@dataclass(eq=False)
class FourEyesError(Refusal):
    """Who opened, verified or issues a batch are three different persons, and the last two gave nothing to it."""

    code = "FOUR_EYES"
    zh = "批次的开立、核证与签发须由不同人员完成，核证与签发人员不得是该批次的贡献者"
    en = "opening, verifying and issuing a batch is done by different persons, the last two without a part in it"


@dataclass(eq=False)
class SampleNeededError(Refusal):
    """No sample was drawn of what the batch holds now."""

    code = "SAMPLE_NEEDED"
    zh = "批次当前内容尚未抽样，请先抽样"
    en = "no sample was drawn of what the batch holds now; draw one first"


@dataclass(eq=False)
class NotInBatchError(Refusal):
    """The act to be taken off is not in the batch, or is named twice."""

    action: str

    code = "NOT_IN_BATCH"
    zh = "行为 {action} 不在该批次中，或被重复列出"
    en = "the action {action} is not in the batch, or is named twice"


@dataclass(eq=False)
class BatchTooSmallError(Refusal):
    """Less than a whole tonne is left, counted in each contributor's whole grams."""

    grams: int

    code = "BATCH_TOO_SMALL"
    zh = "核证后仅余 {grams} 克，不足 1 吨，不能签发；请驳回该批次"
    en = "{grams} g would be left, which is less than a tonne: nothing could be issued; reject the batch"
