"""The book under load: bulk earnings, transfers beside Medici, one hot account, proofs and their cost.

``--grow N`` instead fills one book with N transactions and measures how it grows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from backend.cli.console import quiet_logs, with_services
from backend.runtime import open_services
from backend.settings import Settings
from backend.stack import running_servers
from loadtests.ledger_book import ROUNDS, SEED, audit
from loadtests.ledger_bulk import BATCHES, SETTLED_CITIZENS, measure_bulk
from loadtests.ledger_growth import FIRST_CHECKPOINT, measure_growth
from loadtests.ledger_medici import running_medici
from loadtests.ledger_proofs import measure_audit, measure_disk, measure_receipt, redeem
from loadtests.ledger_transfers import (
    ACCOUNTS,
    SPENDS,
    TRANSFERS,
    measure_hot_account,
    measure_one_merchant,
    measure_transfers,
    open_accounts,
)
from loadtests.report import Figure, report

if TYPE_CHECKING:
    from backend.runtime import Services

MOST_GROWTH = 100_000_000
# A reservation and a capture each: 7 in 100 transactions of the book that is audited.
REDEMPTIONS = 2_100


async def measure(services: Services, folder: Path) -> dict[str, Figure]:
    """All figures of this benchmark; the books are audited after each part, or it ends there."""
    print(
        f"seed {SEED}, medians of {ROUNDS} rounds: {BATCHES} batches for {SETTLED_CITIZENS:,} citizens and more, "
        f"{TRANSFERS:,} transfers among {ACCOUNTS:,} accounts, {SPENDS:,} spends of one account"
    )
    figures = await measure_bulk(services)
    figures |= await measure_audit(services, "audit_of_earnings")
    await redeem(services, REDEMPTIONS)
    figures |= await measure_audit(services, "audit", goal=100_000)
    await open_accounts(services)
    with running_medici(str(services.settings.mongodb_url), folder, ACCOUNTS) as medici:
        figures |= await measure_transfers(services, medici)
    await audit(services, "transfers")
    async with open_services(services.settings) as second:
        figures |= await measure_hot_account(services, second)
        await audit(services, "one hot account")
        figures |= await measure_one_merchant(services, second)
    figures |= await measure_receipt(services)
    figures |= await measure_disk(services)
    figures |= await measure_audit(services, "audit_of_transfers")
    return {**figures, "books": Figure("clean", "", "clean")}


def _size(text: str) -> int:
    value = int(text.replace("_", ""))
    if not FIRST_CHECKPOINT <= value <= MOST_GROWTH:
        raise argparse.ArgumentTypeError(f"from {FIRST_CHECKPOINT:,} to {MOST_GROWTH:,} transactions")
    return value


def main() -> None:
    """Run it; exit 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grow", type=_size, metavar="N", help="fill one book with N transactions and measure that")
    arguments = parser.parse_args()
    quiet_logs()
    with tempfile.TemporaryDirectory(prefix="tanhui-bench-") as folder:
        settings = Settings().model_copy(update={"data_dir": Path(folder), "mongodb_url": None, "valkey_url": None})
        with running_servers(settings) as servers:
            if arguments.grow:
                met = with_services(servers.settings, lambda services: measure_growth(services, arguments.grow))
            else:
                medici = Path(folder) / "medici"
                met = report("ledger", with_services(servers.settings, lambda services: measure(services, medici)))
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
