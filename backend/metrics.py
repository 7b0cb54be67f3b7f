"""What a Prometheus server reads: how far the books were audited, and what they hold; audits nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from backend.audit import followed_books

if TYPE_CHECKING:
    from backend.runtime import Services

METRICS_TYPE = CONTENT_TYPE_LATEST


async def metrics_text(services: Services) -> bytes:
    """The gauges in Prometheus's text format, as of the last time the books were followed.

    Raises:
        UnavailableError: MongoDB does not answer.
    """
    followed = await followed_books(services)
    # A registry of its own each time: what is not in the state any more is not shown either.
    registry = CollectorRegistry()

    def gauge(name: str, meaning: str, value: int) -> None:
        Gauge(name, meaning, registry=registry).set(value)

    gauge("tanhui_audit_height", "Last block that was audited.", followed.height)
    gauge("tanhui_audit_findings", "Differences found since the first block.", followed.findings)
    ran_at = int(followed.at.timestamp()) if followed.at else 0
    gauge("tanhui_audit_last_run_timestamp_seconds", "When following last ran to its end.", ran_at)
    gauge("tanhui_ledger_unsealed", "Transactions that waited to be sealed then.", followed.waiting)
    balances = Gauge(
        "tanhui_ledger_balance",
        "Sum of an account's postings in the audited blocks; owners' accounts together, by kind and asset.",
        ["account"],
        registry=registry,
    )
    for account, amount in sorted(followed.balances.items()):
        balances.labels(account).set(amount)
    return generate_latest(registry)
