"""How a stability run is printed: `popnet stability`, while it trains and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from popnet import prose

if TYPE_CHECKING:
    from popnet.engine.stability import Stability


def render_stability(outcome: Stability, console: Console) -> None:
    """A row for each metric: its value, interval, width, the width asked for and after how many runs it was reached."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title_justify="left")
    table.add_column("metric")
    for header in ("value", "95% interval", "width", "target", "runs needed"):
        table.add_column(header, justify="right")
    for metric in outcome.metrics:
        estimate = metric.estimate
        cells = (
            metric.metric,
            f"{estimate.value:.4g}",
            f"{estimate.low:.4g} to {estimate.high:.4g}",
            f"{metric.width:.3g}",
            f"{metric.target:g}",
            f"more than {outcome.runs}" if metric.runs is None else str(metric.runs),
        )
        table.add_row(*map(Text, cells))
    prose.show(console, f"{outcome.variant}: {outcome.runs} runs")
    console.print(table)
