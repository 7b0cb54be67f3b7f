"""How a benchmark states its figures: value, unit, goal, whether it is met; printed and written as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Figure:
    """One measured figure; ``goal`` is a bound, from above where less is better. Without goal it only informs."""

    value: int | float | str
    unit: str
    goal: int | float | str | None = None
    is_less_better: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without goal."""
        if self.goal is None:
            return None
        if isinstance(self.value, str) or isinstance(self.goal, str):
            return self.value == self.goal
        return self.value <= self.goal if self.is_less_better else self.value >= self.goal


def report(name: str, figures: dict[str, Figure]) -> bool:
    """Print the figures and write ``results/<name>.json``; whether every goal is met."""
    RESULTS.mkdir(exist_ok=True)
    table = Table("figure", "value", "unit", "goal", "met", title=name)
    rows = {}
    for figure_name, figure in figures.items():
        shown = f"{figure.value:,}" if not isinstance(figure.value, str) else figure.value
        table.add_row(
            figure_name, shown, figure.unit, str(figure.goal or ""), {None: "", True: "✓", False: "✗"}[figure.met]
        )
        row = asdict(figure)
        del row["is_less_better"]
        rows[figure_name] = {**row, "met": figure.met}
    Console().print(table)
    (RESULTS / f"{name}.json").write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    return all(figure.met is not False for figure in figures.values())
