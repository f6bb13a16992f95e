"""The command line. Exit codes: 0 done, 1 some members failed, 2 wrong input (one sentence), 130 or 143 interrupted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import popnet
from popnet.errors import PopnetError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train populations of small neural networks, bit for bit reproducibly, and see what varies between them.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: where they are, and how to get them.")
app.add_typer(data_app, name="data")

ExperimentArgument = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="An experiment's YAML file, or the name of a shipped one.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides with dotted keys, as in recipe.epochs=10."),
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Folder for finished members. Default: runs/NAME of the experiment.")
]
DeviceOption = Annotated[str, typer.Option(help="Where to train: auto or cpu.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def run(
    experiment: ExperimentArgument,
    overrides: OverridesArgument = None,
    store: StoreOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes. Default: one for each core, divided by the recipe's threads.")
    ] = None,
    device: DeviceOption = "auto",
    executor: Annotated[str, typer.Option(help="Who trains the members: local.")] = "local",
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be trained, and train nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the table only.")] = False,
    debug: DebugOption = False,
) -> None:
    """Train what is missing of an experiment's populations, and print its table.

    A run that was interrupted goes on where it was: finished members are never trained again.

    Example: popnet run quickstart population=4 recipe.epochs=12 --workers 2
    """
    from popnet import config, engine
    from popnet.engine.progress import ConsoleReporter

    loaded = config.load(experiment, overrides or [])
    if plan:
        _print_plan(engine.plan(loaded, device))
        return
    console = Console(stderr=True, quiet=quiet)
    result = engine.run(loaded, store, workers, device, executor, ConsoleReporter(console))
    table = _print_table(result, Console())
    path = result.store.save_table("variability", table)
    console.print(f"members in {result.store.path}, table in {path}", highlight=False, soft_wrap=True, markup=False)
    if table["failed"].sum():
        raise typer.Exit(1)


@app.command()
def plan(
    experiment: ExperimentArgument,
    overrides: OverridesArgument = None,
    device: DeviceOption = "auto",
    debug: DebugOption = False,
) -> None:
    """Show what an experiment would train: members of each row, and how many trainings the rows share."""
    from popnet import config, engine

    _print_plan(engine.plan(config.load(experiment, overrides or []), device))


@app.command()
def report(
    store: Annotated[Path, typer.Argument(help="The folder of a run.")],
    debug: DebugOption = False,
) -> None:
    """Print the tables of a store's experiments again, from the stored predictions."""
    from popnet import config, protocol
    from popnet.engine import Result, platform
    from popnet.store import open_store

    opened = open_store(store)
    for content in opened.experiments().values():
        planned = protocol.plan(config.from_mapping(content, origin=str(store)), platform())
        _print_table(Result(planned, opened), Console())


@data_app.command("list")
def data_list(debug: DebugOption = False) -> None:
    """Every data set that popnet knows, with where it was found or how to get it."""
    from popnet.data import available

    console = Console(soft_wrap=True, highlight=False)
    for name, state in available().items():
        console.print(f"{'found  ' if state.ready else 'missing'} {name:15} {state.where}")


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A data set that torchvision downloads, as in cifar10.")],
    root: Annotated[Path | None, typer.Option(help="Folder. Default: $POPNET_DATA or ~/.cache/popnet/data.")] = None,
    debug: DebugOption = False,
) -> None:
    """Download a data set through torchvision."""
    from popnet.data import fetch

    where = fetch(name, root)
    Console(soft_wrap=True).print(f"{name}: in {where}" if where else f"{name}: built in, nothing to fetch")


def _print_plan(planned: popnet.engine.Plan) -> None:  # type: ignore[name-defined]
    from rich.table import Table

    table = Table(
        "Variant", "Members", "Sources", "Onset", box=None, title=planned.experiment.name, title_justify="left"
    )
    for population in planned.populations:
        variant = population.variant
        sources = "+".join(variant.sources) or "none"
        table.add_row(variant.name, str(len(population.members)), sources, str(variant.onset) if variant.onset else "")
    console = Console()
    console.print(table)
    epochs = sum(m.recipe.epochs for m in planned.members)
    console.print(
        f"{planned.rows} members in {len(planned.populations)} rows: {len(planned.members)} different trainings, "
        f"{epochs:,} epochs (beginnings that members share counted each time)",
        highlight=False,
    )


def _print_table(result: popnet.engine.Result, console: Console):  # type: ignore[name-defined,no-untyped-def]
    import pandas as pd

    from popnet.report.tables import published, render

    experiment = result.plan.experiment
    table = result.table("variability")
    rows = [published(reference) for reference in experiment.published]
    beside = pd.concat(rows) if rows else None
    if beside is not None:
        beside = beside[~beside.index.duplicated()]
    render(table, experiment.description or experiment.name, beside, console)
    ledger = result.store.members()
    planned = ledger.index.isin([m.id for m in result.plan.members])
    for member_id, error in ledger.loc[planned & (ledger["status"] == "failed"), "error"].items():
        console.print(f"member {member_id} failed: {error}", highlight=False, soft_wrap=True, markup=False)
    return table


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that popnet raises on purpose are printed as one sentence, with exit code 2."""
    words = sys.argv[1:] if arguments is None else arguments
    command = typer.main.get_command(app)
    try:
        command.main(words, prog_name="popnet")
    except PopnetError as error:
        if "--debug" in words:
            raise
        from popnet.engine import Interrupted

        Console(stderr=True).print(f"popnet: {error}", highlight=False, soft_wrap=True, markup=False)
        sys.exit(error.code if isinstance(error, Interrupted) else 2)
