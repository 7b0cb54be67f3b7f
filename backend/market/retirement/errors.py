"""Why credits are not retired."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class UnknownCreditError(Refusal):
    """No such credit was ever issued."""

    credit: str

    code = "UNKNOWN_CREDIT"
    zh = "没有签发过减排量 {credit}"
    en = "no credit {credit} was ever issued"


@dataclass(eq=False)
class InsufficientCreditsError(Refusal):
    """The owner has fewer grams of the credit that no order holds."""

    needed_g: int
    available_g: int

    code = "INSUFFICIENT_CREDITS"
    zh = "减排量不足：需要 {needed_g} 克，可用（未冻结）{available_g} 克"
    en = "not enough credits: {needed_g} grams needed, {available_g} available that no order holds"


@dataclass(eq=False)
class TooFragmentedError(Refusal):
    """What is to be retired lies in more ranges of serials than one certificate can name."""

    limit: int
    possible_g: int

    code = "TOO_FRAGMENTED"
    zh = "减排量的序列号过于零散：一次最多注销 {limit} 段，当前最多 {possible_g} 克，请分次注销"
    en = "the serials are too fragmented: at most {limit} ranges at once, now {possible_g} grams; retire in parts"
