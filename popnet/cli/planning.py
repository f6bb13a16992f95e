"""`popnet plan`: what experiments would train, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from popnet import machine, prose
from popnet.cli.options import AllowImportOption, DebugOption, DeviceOption, JsonOption, OverridesArgument, ScaleOption
from popnet.cli.output import say_what_is_shipped, standard_error, standard_output
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
        bool | None,
        typer.Option(help="Time a few training steps for the hours; default: where that runs no imported code."),
    ] = None,
    allow_import: AllowImportOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what an experiment would train: members of each row, how many trainings the rows share, and the hours here.

    Of a folder: all its experiments, each in a store of its own, as `popnet run FILE` trains it, and all in one store,
    where they share trainings too: `popnet run FILE --store FOLDER`, with the same folder for each.

    Example: popnet plan experiments/
    """
    from popnet import config, engine
    from popnet.engine.estimates import survey
    from popnet.scaling import scaled

    folder = Path(experiment)
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else [experiment]
    if not files:
        raise ConfigError(f"{folder}: no *.yaml in this folder")
    if not folder.is_dir():
        say_what_is_shipped(experiment)
    loaded = [config.load(file, overrides or [], allow_import=allow_import) for file in files]
    plans = [engine.plan(scaled(one, scale), device) for one in loaded]
    costs = survey(plans, measure is not False, own_code=measure is True)
    if folder.is_dir():
        _print_costs(costs, len(plans), as_json)
        return
    cost = next(costs)
    if as_json:
        machine.write(_planned(plans[0]) | {"cost": _plain(cost)})
        return
    print_plan(plans[0], as_json)
    console = standard_output()
    prose.show(console, f"Rows that share trainings save {cost.saved:.0%} of the epochs.")
    if measure is not False:
        prose.show(console, _hours_told(cost))


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


def _plain(cost: Cost) -> dict[str, Any]:
    """A cost for machines, with what follows from its fields."""
    from popnet.engine.devices import available_cores

    derived = {"saved": cost.saved, "hours": cost.hours, "common_hours": cost.common_hours}
    return {**machine.plain(cost), **derived, "cores": available_cores()}


def _print_costs(costs: Iterable[Cost], count: int, as_json: bool) -> None:
    """A line for each experiment of a folder, and their sum: in a store each, and in one store."""
    from rich.progress import track
    from rich.table import Table
    from rich.text import Text

    found = list(track(costs, "estimating", total=count, console=standard_error(), transient=True))
    if as_json:
        machine.write([_plain(cost) for cost in found])
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("Experiment", overflow="fold", min_width=10)
    for header in ("Trained", "New", "Epochs"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("Hours", justify="right", overflow="fold", max_width=20)
    for c in found:
        table.add_row(Text(c.name), f"{c.members:,}", f"{c.new:,}", f"{c.epochs:,}", Text(_hours_or_why(c)))
    console = standard_output()
    console.print(table)
    for text in _sums(found):
        prose.show(console, text)


def _hours_or_why(cost: Cost) -> str:
    from popnet.engine.estimates import NOT_ASKED

    if cost.hours is not None:
        return f"{_amount(cost.hours)}{'*' if cost.instead else ''}"
    return "" if cost.unknown == NOT_ASKED else f"none: {cost.unknown}"


def _sums(found: Sequence[Cost]) -> Iterator[str]:
    asked, known = sum(c.epochs_asked for c in found), [c for c in found if c.hours is not None]
    own, common = (
        (sum(c.members for c in found), sum(c.epochs for c in found), sum(c.hours or 0.0 for c in known)),
        (sum(c.new for c in found), sum(c.common_epochs for c in found), sum(c.common_hours or 0.0 for c in known)),
    )
    yield f"{sum(c.rows for c in found):,} members asked for."
    for how, (trainings, epochs, hours) in (
        ("Each in a store of its own, as popnet run FILE trains them", own),
        ("All in one store (popnet run FILE --store FOLDER, the same for each, in this order)", common),
    ):
        about = f", about {_amount(hours)} hours" if known else ""
        yield f"{how}: {trainings:,} trainings, {epochs:,} epochs, {1 - epochs / max(asked, 1):.0%} saved{about}."
    yield "New: what one store that has those above needs still. Epochs and hours: in a store of its own."
    if known:
        told = f"Hours of the {len(known)} that can be estimated here, on {_cores()}. " + _HOW_ESTIMATED
        yield told
    for why in dict.fromkeys(c.instead for c in known if c.instead):
        yield f"* {why}: {', '.join(c.name for c in known if c.instead == why)}"


_HOW_ESTIMATED = (
    "From the speed, just now, of a few training steps of each kind of recipe on random images, with a member on every "
    "core from beginning to end; other work on the machine while they were timed makes them too many."
)


def _hours_told(cost: Cost) -> str:
    if cost.hours is None:
        return f"Hours are not estimated: {cost.unknown}."
    instead = f" ({cost.instead})" if cost.instead else ""
    return f"About {_amount(cost.hours)} hours on {_cores()}{instead}. {_HOW_ESTIMATED}"


def _cores() -> str:
    from popnet.engine.devices import available_cores

    cores = available_cores()
    return f"{cores} CPU core{'s' if cores > 1 else ''} of this machine"


def _amount(hours: float) -> str:
    if hours < 0.1:
        return f"{hours:.1g}" if hours else "0"
    return f"{hours:,.1f}" if hours < 100 else f"{hours:,.0f}"
