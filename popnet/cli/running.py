"""`popnet run`: train what is missing of an experiment, and print its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from popnet import machine
from popnet.cli.options import (
    AllowImportOption,
    DebugOption,
    DeviceOption,
    ExperimentArgument,
    JsonOption,
    OverridesArgument,
    ScaleOption,
    StoreOption,
)
from popnet.cli.output import say_what_is_shipped, standard_error, standard_output
from popnet.cli.planning import print_plan
from popnet.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from popnet.config import Experiment
    from popnet.engine import Result


def run(
    experiment: ExperimentArgument,
    overrides: OverridesArgument = None,
    store: StoreOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Worker processes. Default: one for each core (of the cluster), divided by the recipe's threads."
        ),
    ] = None,
    device: DeviceOption = "auto",
    executor: Annotated[str, typer.Option(help="Who trains the members: local, or ray (a cluster).")] = "local",
    checkpoint_minutes: Annotated[
        float, typer.Option(help="A training that takes longer saves how far it is so often.")
    ] = 10.0,
    hang_minutes: Annotated[
        float, typer.Option(help="A worker that does no training step for so long is replaced.")
    ] = 10.0,
    cohort: Annotated[
        int | None, typer.Option(help="Members at once on each GPU. Default: chosen by a short measurement.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Where another run has the store, wait until it ends.")] = False,
    verify: Annotated[
        bool, typer.Option(help="Read finished members' files first, and train again those that are damaged.")
    ] = True,
    scale: ScaleOption = "full",
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be trained, and train nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the table only.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also a line for each member that begins or ends.")
    ] = False,
    allow_import: AllowImportOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train what is missing of an experiment's populations, and print its table.

    A run that was interrupted goes on where it was: finished members are never trained again.

    Example: popnet run quickstart population=4 recipe.epochs=12 --workers 2
    """
    from popnet import config, engine, next_steps
    from popnet.engine.progress import ConsoleReporter
    from popnet.results.stores.populations import failed_members
    from popnet.scaling import scaled

    if quiet and verbose:
        raise ConfigError("--quiet and --verbose contradict each other: give one of them")
    say_what_is_shipped(experiment)
    loaded = scaled(config.load(experiment, overrides or [], allow_import=allow_import), scale)
    if plan:
        print_plan(engine.plan(loaded, device), as_json)
        return
    console = standard_error(quiet)
    result = engine.run(
        loaded,
        store,
        workers,
        device,
        executor,
        ConsoleReporter(console, verbose),
        checkpoint_minutes=checkpoint_minutes,
        hang_minutes=hang_minutes,
        cohort=cohort,
        wait=wait,
        verify=verify,
    )
    table = result.table() if as_json else _print_table(result, standard_output())
    paths = [result.store.save_table(result.main_table, table)]
    for name in (name for name in loaded.measure if name in ("similarity", "divergence")):
        paths.append(result.store.save_table(name, result.table(name)))
    tables = f"table{'s' if len(paths) > 1 else ''} in {', '.join(map(str, paths))}"
    if as_json:
        named = {path.stem: path for path in paths}
        failed = failed_members(result.plan, result.store)
        machine.write({"store": result.store.path, "tables": named, "rows": table, "failed_members": failed})
    console.print(f"members in {result.store.path}, {tables}", soft_wrap=True, markup=False)
    next_steps.show(console, *next_steps.after_run(result.plan, result.store.path))
    if table["failed"].sum():
        raise typer.Exit(1)


def _print_table(result: Result, console: Console) -> pd.DataFrame:
    from popnet import prose
    from popnet.report.scaled import departs_from, departures, proxy
    from popnet.report.tables import render
    from popnet.results.measuring import sample_sds
    from popnet.results.stores.populations import failed_members

    experiment = result.plan.experiment
    table = result.table()
    beside = _published_rows(experiment)
    # Beside the papers' numbers their convention, elsewhere that of `popnet compare`.
    shown, sd = (table, "n") if experiment.published else (sample_sds(table), "n - 1")
    render(shown, experiment.description or experiment.name, beside, console, sd)
    if departing := departures(experiment) if beside is not None else []:
        prose.show(console, f"{departs_from(experiment)}: {'; '.join(departing)}.")
    if beside is not None and (said := proxy(experiment)):
        prose.show(console, said)
    for member_id, error in failed_members(result.plan, result.store).items():
        prose.show(console, f"member {member_id} failed: {error}")
    return table


def _published_rows(experiment: Experiment) -> pd.DataFrame | None:
    """The published rows of the experiment's variants, each where its own data and model are the published ones."""
    import pandas as pd

    from popnet.report.scaled import other_than
    from popnet.report.tables import published

    rows = []
    for reference in experiment.published:
        alike = {one.name for one in experiment.variants if not other_than(experiment, reference, one)}
        table = published(reference)
        rows.append(table[table.index.isin(alike)])
    rows = [table for table in rows if len(table)]
    if not rows:
        return None
    beside = pd.concat(rows)
    return beside[~beside.index.duplicated()]
