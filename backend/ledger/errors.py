"""Why the book refuses a transaction."""

from __future__ import annotations

from dataclasses import dataclass

from backend.kernel.errors import Refusal


@dataclass(eq=False)
class InsufficientFundsError(Refusal):
    """A guarded account would fall below zero."""

    account: str
    needed: int
    available: int

    code = "INSUFFICIENT_FUNDS"
    zh = "余额不足：需要 {needed}，可用 {available}"
    en = "insufficient balance: {needed} needed, {available} available"


class MalformedTransactionError(ValueError):
    """A caller built a transaction that no book can hold: a bug of the caller, never of a user."""
