"""Why nothing can be estimated."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class UnsourcedModeError(Refusal):
    """Nobody has published a factor for that mode that we know of, and none is invented."""

    mode: str

    code = "UNSOURCED_MODE"
    zh = "出行方式 {mode} 没有可引用来源的排放因子，不能估算"
    en = "there is no published emission factor for {mode} to rely on"
