"""`popnet plan`: what experiments would train, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from popnet import machine, prose
from popnet.cli.options import AllowImportOption, DebugOption, DeviceOption, JsonOption, OverridesArgument, ScaleOption
from popnet.cli.output import standard_error, standard_output
from popnet.errors import ConfigError

if TYPE_CHECKING:
    from popnet.engine.estimates import Cost
    from popnet.protocol import Plan


def plan(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="A YAML file, a shipped one's name, or a folder of files.")
    ],
    overrides: OverridesArgument = None,
    device: DeviceOption = "auto",
    scale: ScaleOption = "full",
    measure: Annotated[
        bool | None, typer.Option(help="Estimate hours by training a few steps; default: for a folder.")
    ] = None,
    allow_import: AllowImportOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what an experiment would train: members of each row, and how many trainings the rows share.

    Of a folder: what each experiment in it adds to those before it, which share members too.

    Example: popnet plan experiments/
    """
    from popnet import config, engine
    from popnet.engine.estimates import survey
    from popnet.scaling import scaled

    folder = Path(experiment)
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else [experiment]
    if not files:
        raise ConfigError(f"{folder}: no *.yaml in this folder")
    loaded = [config.load(file, overrides or [], allow_import=allow_import) for file in files]
    plans = [engine.plan(scaled(one, scale), device) for one in loaded]
    if folder.is_dir():
        _print_costs(survey(plans, measure is not False), len(plans), as_json)
        return
    if as_json and measure:
        machine.write(_planned(plans[0]) | {"cost": next(survey(plans))})
        return
    print_plan(plans[0], as_json)
    if measure:
        (cost,) = survey(plans)
        console, hours = standard_output(), _hours(cost.hours)
        prose.show(console, f"{cost.saved:.0%} of the epochs are saved by sharing; about {hours} on this machine")
        prose.show(console, _HOW_ESTIMATED)


def print_plan(planned: Plan, as_json: bool) -> None:
    """A line for each row, and how many trainings they share."""
    from rich.table import Table
    from rich.text import Text

    if as_json:
        machine.write(_planned(planned))
        return
    title = Text(planned.experiment.name)
    table = Table("Variant", "Members", "Sources", "Onset", box=None, title=title, title_justify="left")
    for population in planned.populations:
        variant = population.variant
        sources = "+".join(variant.sources) or "none"
        table.add_row(
            Text(variant.name), str(len(population.members)), sources, str(variant.onset) if variant.onset else ""
        )
    console = standard_output()
    console.print(table)
    epochs = sum(m.recipe.epochs for m in planned.members)
    prose.show(
        console,
        f"{planned.rows} members in {len(planned.populations)} rows: {len(planned.members)} different trainings, "
        f"{epochs:,} epochs (beginnings that members share counted each time)",
    )


def _planned(planned: Plan) -> dict[str, Any]:
    rows = [
        {"variant": p.name, "members": [m.id for m in p.members], "vary": p.variant.sources, "onset": p.variant.onset}
        for p in planned.populations
    ]
    epochs = sum(m.recipe.epochs for m in planned.members)
    return {"experiment": planned.experiment.name, "trainings": len(planned.members), "epochs": epochs, "rows": rows}


def _print_costs(costs: Iterable[Cost], count: int, as_json: bool) -> None:
    """A line for each experiment of a folder, and their sum."""
    from rich.progress import track
    from rich.table import Table

    found = list(track(costs, "estimating", total=count, console=standard_error(), transient=True))
    if as_json:
        machine.write(found)
        return
    table = Table("Experiment", box=None, pad_edge=False)
    for header in ("Asked", "Members", "New", "Epochs", "Saved", "Hours"):
        table.add_column(header, justify="right")
    for c in found:
        cells = f"{c.rows:,}", f"{c.members:,}", f"{c.new:,}", f"{c.epochs:,}", f"{c.saved:.0%}", _hours(c.hours, "")
        table.add_row(c.name, *cells)
    console = standard_output()
    console.print(table)
    epochs, asked = sum(c.epochs for c in found), sum(c.epochs_asked for c in found)
    known = [c.hours for c in found if c.hours is not None]
    prose.show(
        console,
        f"{sum(c.rows for c in found):,} members asked for, {sum(c.new for c in found):,} different trainings, "
        f"{epochs:,} epochs: sharing saves {1 - epochs / max(asked, 1):.0%}.",
    )
    if known:
        hours = f"About {sum(known):,.0f} hours on this machine for the {len(known)} that can be estimated here."
        prose.show(console, hours)
        prose.show(console, _HOW_ESTIMATED)


_HOW_ESTIMATED = (
    "Hours: from the speed, just now, of a few training steps of each kind of recipe on random images, and a member on "
    "every core from beginning to end; other work on the machine while they were timed makes them too many."
)


def _hours(hours: float | None, unit: str = " hours") -> str:
    return "-" if hours is None else f"{hours:,.1f}{unit}" if hours < 100 else f"{hours:,.0f}{unit}"
