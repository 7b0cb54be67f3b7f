"""Errors survive pickling with their fields, and speak both languages."""

from __future__ import annotations

import pickle

from backend.kernel.errors import BusyError, IdempotencyConflictError, Language
from backend.ledger.errors import InsufficientFundsError


def test_an_error_survives_pickling_with_its_fields() -> None:
    # A task queue pickles errors; one that formats its text in __init__ comes back broken.
    error = InsufficientFundsError("citizen:alice:points", 7, 3)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.account, again.needed, again.available) == ("citizen:alice:points", 7, 3)
    assert str(again) == str(error) == "INSUFFICIENT_FUNDS: insufficient balance: 7 needed, 3 available"


def test_an_error_speaks_both_languages() -> None:
    error = IdempotencyConflictError("key-0001")
    assert error.message() == "idempotency key key-0001 was already used with another payload"
    assert error.message(Language.ZH_CN) == "幂等键 key-0001 已用于内容不同的请求"
    assert str(BusyError()) == "BUSY: too many simultaneous changes; try again"
