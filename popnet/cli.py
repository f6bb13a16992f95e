"""The command line. Answers go to standard output, everything else to standard error; `EXIT_CODES` says how it ends."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from popnet import machine
from popnet.errors import ConfigError, PopnetError

if TYPE_CHECKING:
    import pandas as pd

    from popnet.engine import Result
    from popnet.engine.estimates import Cost
    from popnet.protocol import Plan
    from popnet.report.claims import Evidence
    from popnet.report.content import Report

EXIT_CODES = (
    "Exit codes: 0 done; 1 done, but members failed, a target was not met, or something is broken or damaged; "
    "2 wrong input, data or store, in one sentence; 70 a defect of popnet; 130 or 143 stopped by Ctrl-C or SIGTERM."
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train populations of small neural networks, bit for bit reproducibly, and see what varies between them.",
    epilog=f"First: popnet doctor. {EXIT_CODES}",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: where they are, and how to get them.")
app.add_typer(data_app, name="data")
store_app = typer.Typer(no_args_is_help=True, help="Stores: check, repair, merge, export, tidy up.")
app.add_typer(store_app, name="store")

ExperimentArgument = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="An experiment's YAML file, or the name of a shipped one.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides with dotted keys, as in recipe.epochs=10."),
]
StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="The folder of a run.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Folder for finished members. Default: runs/NAME of the experiment.")
]
DeviceOption = Annotated[str, typer.Option(help="Where to train: cpu, cuda, or auto: a GPU where there is one.")]
ScaleOption = Annotated[
    str, typer.Option(help="full, or smoke: every row in seconds on generated data, whose numbers mean nothing.")
]
AllowImportOption = Annotated[
    bool,
    typer.Option("--allow-import", help="Run the code that the experiment names by `import:`: where you trust it."),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON; messages go to standard error.")]


@app.command()
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
    from popnet.scaling import scaled

    loaded = scaled(config.load(experiment, overrides or [], allow_import=allow_import), scale)
    if plan:
        _print_plan(engine.plan(loaded, device), as_json)
        return
    console = Console(stderr=True, quiet=quiet)
    result = engine.run(
        loaded,
        store,
        workers,
        device,
        executor,
        ConsoleReporter(console),
        checkpoint_minutes=checkpoint_minutes,
        hang_minutes=hang_minutes,
        cohort=cohort,
        wait=wait,
        verify=verify,
    )
    table = result.table() if as_json else _print_table(result, Console())
    paths = [result.store.save_table(result.main_table, table)]
    for name in (name for name in loaded.measure if name in ("similarity", "divergence")):
        paths.append(result.store.save_table(name, result.table(name)))
    tables = f"table{'s' if len(paths) > 1 else ''} in {', '.join(map(str, paths))}"
    if as_json:
        named = {path.stem: path for path in paths}
        failed = _failures(result)
        machine.write({"store": result.store.path, "tables": named, "rows": table, "failed_members": failed})
    console.print(f"members in {result.store.path}, {tables}", highlight=False, soft_wrap=True, markup=False)
    next_steps.show(console, *next_steps.after_run(result.plan, result.store.path))
    if table["failed"].sum():
        raise typer.Exit(1)


@app.command()
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
    _print_plan(plans[0], as_json)
    if measure:
        (cost,) = survey(plans)
        Console().print(
            f"{cost.saved:.0%} of the epochs are saved by sharing; about {_hours(cost.hours)} on this machine"
        )
        Console().print(_HOW_ESTIMATED)


@app.command()
def report(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Folders of runs.")],
    html: Annotated[Path | None, typer.Option(help="Also write one self-contained HTML file, with figures.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Also write a LaTeX document of the tables and claims.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write every cell as a line, unrounded.")] = None,
    title: Annotated[str, typer.Option(help="Of the report. Default: what the experiments are called.")] = "",
    date: Annotated[str, typer.Option(help="To print under the title; none is printed otherwise.")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Rewrite the HTML file while runs go on there; report when they have ended.")
    ] = False,
    interval: Annotated[float, typer.Option(help="With --watch: seconds between two looks.")] = 10.0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Set what stores hold beside the published tables, and check the papers' claims.

    Every difference is given in units of the combined error, every claim a verdict with the numbers behind it.

    Example: popnet report runs/resnet6 runs/linear --html report.html --csv report.csv
    """
    from popnet.report import document, files, terminal
    from popnet.report.long_form import long_form

    for path in (html, latex, csv):
        files.check_writable(path)
    if watch:
        built, evidence = _watch(stores, html, title, date, interval)
    else:
        built, evidence = document.build(stores, title, date, figures=html is not None)
    if as_json:
        machine.write({"title": built.title, "cells": long_form(evidence), "claims": [c for _, c in built.claims]})
    else:
        terminal.print_report(built, evidence, Console())
    for path in files.write(built, evidence, html, latex, csv):
        Console(stderr=True).print(f"written: {path}", highlight=False, soft_wrap=True, markup=False)


def _watch(
    stores: list[Path], page: Path | None, title: str, date: str, interval: float
) -> tuple[Report, list[Evidence]]:
    """Until the runs have ended. Ctrl-C ends the watching alone, with the exit code of an interruption."""
    from popnet.report.watch import watch

    if page is None:
        raise ConfigError("--watch rewrites a page while runs go on: name it with --html FILE")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"watching, until the runs have ended or Ctrl-C: open {page.resolve().as_uri()}", markup=False)
    try:
        return watch(stores, page, title, date, interval, lambda text: console.print(text, markup=False))
    except KeyboardInterrupt:
        console.print(f"not watched any more: {page} stays as it is, and the runs go on", markup=False)
        raise typer.Exit(130) from None


@app.command("export")
def export_command(
    store: StoreArgument,
    hf: Annotated[Path | None, typer.Option("--hf", metavar="OUT", help="A folder for predictions.")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="OUT", help="A folder for every member's learning curves.")
    ] = None,
    row: Annotated[list[str] | None, typer.Option(help="A row to write; repeat for more. Default: all.")] = None,
    dtype: Annotated[str, typer.Option(help="fp16 or fp32.")] = "fp16",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier export.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write predictions to publish: a folder for each row, with its logits, labels and seeds, under one card.

    Predictions are in the layout of the published logits of many runs: logits.npy [runs, examples, classes] and
    labels.npy. --tensorboard writes learning curves. For one file of everything that the ledger knows of the members
    there is `popnet store export`.

    Example: popnet export runs/quickstart --hf quickstart-logits
    """
    from rich.progress import Progress

    from popnet.publish import publish, write_curves
    from popnet.publish.folder import Published
    from popnet.store import open_store

    if hf is None and tensorboard is None:
        raise ConfigError("export: nothing to write: give --hf OUT or --tensorboard OUT")
    opened = open_store(store)
    rows: list[Published] = []
    curves: list[Path] = []
    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(str(store), total=None)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        if hf is not None:
            rows = publish(opened, hf, row, dtype, force, told)
        if tensorboard is not None:
            curves = write_curves(opened, tensorboard, told)
    if as_json:
        machine.write({"rows": rows, "curves": curves})
        return
    for entry in rows:
        _say(f"{entry.folder}: {entry.runs} runs x {entry.examples} examples x {entry.classes} classes")
    if curves:
        _say(f"{tensorboard}: curves of {len(curves)} members; look at them by `tensorboard --logdir {tensorboard}`")


# -- Is it real? compare, power, stability -----------------------------------------------------------------------------

_SOURCE = (
    'A store (runs/base), one of its rows ("runs/base:All Nondeterminism Sources"), an experiment that was run, a file '
    "of predictions (.npz, .npy, .safetensors) or a table of numbers (.csv)."
)
ColumnOption = Annotated[str | None, typer.Option(help="Column of a CSV file; a column `seed` matches runs.")]
LabelsOption = Annotated[Path | None, typer.Option(help="Labels (.npy) for a file of predictions that holds none.")]


@app.command()
def measure(
    predictions: Annotated[
        Path,
        typer.Argument(help="Logits [members, examples, classes]: .npy, .npz, .pt, .safetensors, a folder, a store."),
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Integer labels [examples]: .npy, .npz, .pt, .safetensors, .txt, .csv.")
    ] = None,
    ensemble_cross_entropy: Annotated[
        bool, typer.Option("--ensemble-cross-entropy", help="Also the cross-entropy of every pair's ensemble.")
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the row to this file, unrounded.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure the variability of anyone's predictions: many runs of one model on one test set.

    A folder holds one file for each run; a popnet store brings its own labels.

    Example: popnet measure logits.npy --labels labels.npy
    """
    from popnet.metrics import measure_file
    from popnet.report.tables import render

    table = measure_file(predictions, labels, ensemble_cross_entropy=ensemble_cross_entropy)
    if as_json:
        machine.write(table)
    else:
        render(table, str(predictions), console=Console())
    if csv is not None:
        csv.write_text(table.to_csv())


@app.command()
def compare(
    sources: Annotated[list[str], typer.Argument(metavar="A B [C]...", help=_SOURCE)],
    metric: Annotated[
        list[str] | None, typer.Option(help="accuracy, cross_entropy or a column; default: all that there are.")
    ] = None,
    column: ColumnOption = None,
    labels: LabelsOption = None,
    paired: Annotated[
        bool | None, typer.Option("--paired/--unpaired", help="Match runs by seed; default: where all seeds match.")
    ] = None,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Studentised bootstrap instead of Student's t.")
    ] = False,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the intervals.")] = 0.95,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Is A better than B? The difference with its intervals, how often A wins, and the answer in plain words.

    More than two sources are compared in pairs, and their p-values corrected for their number (Holm).

    Example: popnet compare mine.csv baseline.csv

    \b
    A - B                                      +0.38
      95% interval, new runs       +0.0836 to +0.676
      p-value                                  0.024
    A beats B                  100% of matched pairs
    A is better than B by 0.38 points of accuracy (A minus B: 95% interval
    +0.0836 to +0.676, p = 0.024, 5 and 5 runs).

    Example: popnet compare "is_it_real:Half the rate" is_it_real:Baseline (after popnet run is_it_real)

    \b
    These runs do not tell A from B: A is ahead by 0.0667 points of accuracy
    (95% interval -0.307 to +0.441, p = 0.71, 20 and 20 runs). A true
    difference of that size would take about 1,128 runs of each to see.
    """
    from popnet import next_steps
    from popnet.metrics import comparison, runs
    from popnet.report import comparisons

    if len(sources) < 2:
        raise ConfigError("compare needs at least two sources")
    read = [runs.read(source, labels, column) for source in sources]
    runs.check_comparable(read)
    names = runs.common_metrics(read, metric)
    options: dict[str, Any] = {"method": "bootstrap" if bootstrap else "welch", "confidence": confidence}
    if len(read) == 2:
        a, b, match = runs.matched(read[0], read[1], paired)
        results = [
            comparison.compare_samples(a.samples[n], b.samples[n], paired=match, **runs.meaning(n), **options)
            for n in names
        ]
        if as_json:
            sentences = {"a": a.name, "b": b.name}
            machine.write([{**sentences, **machine.plain(r), "sentence": r.sentence()} for r in results])
            return
        comparisons.render_comparison(results, a.name, b.name, Console())
        if names[0] == "accuracy" and column is None and results[0].difference:
            difference = f"{abs(results[0].difference):.2g}"
            words = ["popnet", "power", "--difference", difference, "--from", sources[0], "--from", sources[1]]
            next_steps.show(Console(stderr=True), words)
        return
    letters = {chr(ord("A") + i): r for i, r in enumerate(read)}
    answers = []
    for name in names:
        samples = {letter: r.samples[name] for letter, r in letters.items()}
        pairs = comparison.compare_all(samples, **runs.meaning(name), **options)
        if as_json:
            answers += [
                {"a": letters[a].name, "b": letters[b].name, **machine.plain(found), "p_value_holm": adjusted}
                for (a, b), (found, adjusted) in pairs.items()
            ]
            continue
        comparisons.render_all(name, {letter: r.name for letter, r in letters.items()}, pairs, Console())
    if as_json:
        machine.write(answers)


@app.command()
def power(
    difference: Annotated[float, typer.Option(help="The difference to find, in points or the metric's unit.")],
    source: Annotated[
        list[str] | None, typer.Option("--from", help="Measure the SDs there, as of `compare`; twice for A and B.")
    ] = None,
    sd: Annotated[list[float] | None, typer.Option(help="The SD between runs, once, or twice for A and B.")] = None,
    error: Annotated[float | None, typer.Option(help="Before any repetition: one run's error in percent.")] = None,
    examples: Annotated[int | None, typer.Option(help="With --error: the size of the test set.")] = None,
    classes: Annotated[int, typer.Option(help="With --error: how many classes.")] = 2,
    distribution_sd: Annotated[float, typer.Option(help="With --error: the assumed genuine SD, in points.")] = 0.03,
    wanted: Annotated[float, typer.Option("--power", min=0.06, max=0.9999, help="The chance to find it.")] = 0.8,
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.5, help="The level of the two-sided test.")] = 0.05,
    metric: Annotated[str, typer.Option(help="With --from: accuracy, cross_entropy or a CSV's column.")] = "accuracy",
    labels: LabelsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """How many runs of each does it take to see a difference?

    From measured SDs (--from, --sd), or, before any repetition, from a single run by the calibration formula (--error,
    or --from a source that holds one run).

    Example: popnet power --difference 0.3 --from is_it_real:Baseline

    \b
    SD between runs: 0.736 (measured over 20 runs of runs/is_it_real:Baseline)
    A difference of 0.3 is found with a chance of 80% by 96 runs of each
    (two-sided test at 5%, on one test set).

    Example: popnet power --difference 0.2 --error 5.6 --examples 10000 --classes 10

    \b
    SD between runs: 0.0806 to 0.17 (expected from an error of 5.6% on 10,000
    examples, 10 classes)
    A difference of 0.2 is found with a chance of 80% by 5 to 13 runs of each
    (two-sided test at 5%, on one test set).
    """
    from popnet.metrics import planning
    from popnet.report import comparisons

    if [bool(source), bool(sd), error is not None].count(True) != 1:
        raise ConfigError("give one of --from, --sd and --error")
    if source:
        sds = planning.measured_sds(source, metric, labels, distribution_sd)
    else:
        sds = planning.given_sds(sd) if sd else planning.expected_sds(error or 0.0, examples, classes, distribution_sd)
    needed = planning.power_plan(difference, sds, wanted, alpha)
    if as_json:
        machine.write(needed)
    else:
        comparisons.render_power(needed, Console())


@app.command()
def stability(
    experiment: ExperimentArgument,
    overrides: OverridesArgument = None,
    variant: Annotated[str | None, typer.Option(help="Which row; default: all sources, else the first.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=WIDTH", help="Width of a metric's 95% interval; repeat for more."),
    ] = None,
    least: Annotated[int, typer.Option(min=4, help="Runs before the first look.")] = 8,
    most: Annotated[int, typer.Option(min=4, help="Runs at which to give up.")] = 200,
    store: StoreOption = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes, as of `run`.")] = None,
    device: DeviceOption = "auto",
    executor: Annotated[str, typer.Option(help="Who trains the members, as of `run`.")] = "local",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the last table only.")] = False,
    allow_import: AllowImportOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """How many runs until the numbers stand still? Trains until each interval is narrower than its target, then stops.

    Exit code 1 where the targets were not met by --most runs.

    Example: popnet stability is_it_real --variant Baseline --target accuracy_mean=0.5 --target disagreement=0.8

    \b
    metric          value     95% interval   width   target   runs needed
    accuracy_mean   97.18   96.93 to 97.43   0.499      0.5            29
    disagreement    3.656   3.288 to 4.024   0.736      0.8            26
    """
    from popnet import config
    from popnet.engine import stability as steady
    from popnet.engine.progress import ConsoleReporter
    from popnet.report import comparisons

    targets = steady.parse_targets(target) if target else steady.DEFAULT_TARGETS
    console = Console(stderr=True, quiet=quiet)
    outcome = steady.stability(
        config.load(experiment, overrides or [], allow_import=allow_import),
        variant,
        targets,
        store=store,
        workers=workers,
        device=device,
        executor=executor,
        least=least,
        most=most,
        reporter=ConsoleReporter(console),
        tell=lambda so_far: comparisons.render_stability(so_far, console),
    )
    if as_json:
        machine.write(outcome)
    else:
        comparisons.render_stability(outcome, Console())
    if not outcome.steady:
        raise typer.Exit(1)


@app.command("theory")
def theory_command(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help=_SOURCE)],
    output: Annotated[Path, typer.Option(help="Folder for NAME.md and its figures.")] = Path("reports"),
    name: Annotated[str, typer.Option(help="Of the files.")] = "theory",
    title: Annotated[str, typer.Option(help="Of the report.")] = "Variance between runs",
    labels: LabelsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """How much of the variance between runs is genuine: Jordan's (2024) statistics and figures, as a Markdown report.

    Rows that differ in epochs or learning rate alone, rows with a poked weight beside their twins, and the same runs
    on several test sets get the paper's figures of these too.

    Example: popnet theory "runs/jordan_small:1 epoch" "runs/jordan_small:16 epochs" --name jordan_small
    """
    from popnet.metrics import runs
    from popnet.report import theory

    read = [runs.read(source, labels, least=8) for source in sources]
    written = theory.write(read, output, name, title)
    if as_json:
        machine.write({"report": written, "populations": theory.summaries(read)})
    else:
        Console(soft_wrap=True).print(f"report in {written}", highlight=False)


@app.command("predict")
def predict_command(
    source: Annotated[str, typer.Argument(metavar="STORE", help="A store or one of its rows; its runs keep weights.")],
    pictures: Annotated[Path, typer.Argument(help="A folder with a folder of pictures for each class, or a .beton.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.npz")],
    mapping: Annotated[
        Path | None, typer.Option(help="YAML or JSON: folder: class, where folders are not called as classes are.")
    ] = None,
    device: DeviceOption = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.npz.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    allow_import: AllowImportOption = False,
    debug: DebugOption = False,
) -> None:
    """Test trained runs on another test set, as ImageNet-V2, -R, -Sketch or ObjectNet; for `popnet theory` and compare.

    Example: popnet predict runs/imagenet_resnet18 imagenet-sketch sketch.npz
    """
    from rich.progress import Progress

    from popnet.engine.predicting import predict

    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(output.name, total=None)
        accuracies = predict(
            *(source, pictures, output, mapping, device, force),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            allow_import=allow_import,
        )
    line = f"{output}: {len(accuracies)} runs, accuracy {accuracies.mean():.2f} %"
    Console(soft_wrap=True, highlight=False).print(line, markup=False)


# -- First contact: doctor, new, schema -------------------------------------------------------------------------------


@app.command()
def doctor(
    train: Annotated[bool, typer.Option(help="Also train a tiny member and compare its bits.")] = True,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at this machine: versions, GPU, native code, extras, data sets, and whether it gives the bits on record.

    Exit code 1 where something popnet needs is broken; what is optional and missing is not an error.
    """
    from rich.text import Text

    from popnet import next_steps
    from popnet.doctor import examine

    console = Console(soft_wrap=True)
    styles = {"ok": "green", "missing": "yellow", "unknown": "yellow", "broken": "bold red"}
    checks = []
    for check in examine(train):
        checks.append(check)
        if not as_json:
            remedy = f"\n{'':28}-> {check.remedy}" if check.remedy else ""
            console.print(
                Text(f"{check.verdict:8}", styles[check.verdict]) + Text(f"{check.name:20}{check.found}{remedy}")
            )
    if as_json:
        machine.write(checks)
    if any(check.verdict == "broken" for check in checks):
        raise typer.Exit(1)
    if not as_json:
        next_steps.show(console, ["popnet", "run", "quickstart"], ["popnet", "new", "mine", "--own"])


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the experiment; the file is NAME.yaml.")],
    dataset: Annotated[
        str | None, typer.Option(help="A data set of `popnet data list`, or package.module:attr.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model's name, or package.module:attribute.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    lr: Annotated[float | None, typer.Option(help="The schedule's largest learning rate.")] = None,
    population: Annotated[int | None, typer.Option(min=2, help="Trainings a row.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="A source to vary; repeat for more. Default: all.")] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Also write NAME_parts.py: your own model, data, loss, optimiser.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where to write the file.")] = Path(),
    debug: DebugOption = False,
) -> None:
    """Write a commented experiment file. At a terminal, asks for what no option answers; elsewhere takes defaults.

    Example: popnet new mine --dataset fashion_mnist --model resnet6 --epochs 10
    """
    from popnet import next_steps, scaffold

    if own and (dataset or model or lr):
        raise ConfigError("--own brings a data set, a model and an optimiser of its own: leave out those options")
    given: dict[str, Any] = {"dataset": dataset, "model": model, "epochs": epochs, "batch_size": batch_size, "lr": lr}
    given |= {"population": population}
    if own:
        given = {"epochs": epochs, "batch_size": batch_size, "population": population}
    if sys.stdin.isatty():
        defaults = scaffold.Answers(name)
        given = {k: typer.prompt(k, default=getattr(defaults, k)) if v is None else v for k, v in given.items()}
    answers = {k: v for k, v in given.items() if v is not None} | ({"sources": source} if source else {})
    written = scaffold.write(scaffold.Answers(name, own, **answers), folder)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"written: {', '.join(map(str, written))}", markup=False)
    imports = any(":" in str(part) for part in (dataset, model)) or own
    allowed = ["--allow-import"] if imports else []
    next_steps.show(console, *(["popnet", command, str(written[0]), *allowed] for command in ("plan", "run")))


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option(help="A file; default: print it.")] = None,
    debug: DebugOption = False,
) -> None:
    """The JSON Schema of experiment files, for editors: completion, and unknown keys underlined.

    Example: popnet schema --output popnet.schema.json

    \b
    Then, as an experiment file's first line:
    # yaml-language-server: $schema=popnet.schema.json
    """
    import json

    from popnet.schema import experiment_schema

    content = json.dumps(experiment_schema(), indent=2) + "\n"
    if output is None:
        sys.stdout.write(content)
    else:
        output.write_text(content, encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------------------


@data_app.command("list")
def data_list(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Every data set that popnet knows, with where it was found or how to get it."""
    from popnet.data import available

    if as_json:
        machine.write(dict(available()))
        return
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


@data_app.command("write")
def data_write(
    dataset: Annotated[
        str,
        typer.Argument(help="A data set of `popnet data list`, or a folder with a folder of pictures for each class."),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT.beton")],
    split: Annotated[str, typer.Option(help="Of a named data set: train or test.")] = "train",
    encoding: Annotated[
        str, typer.Option(help="keep (JPEG files as they are, anything else raw), raw or jpeg (encoded anew).")
    ] = "keep",
    max_resolution: Annotated[
        int | None, typer.Option(min=1, help="Scale down pictures whose longer side has more pixels.")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of pictures encoded as JPEG.")] = 90,
    root: Annotated[Path | None, typer.Option(help="Folder. Default: $POPNET_DATA or ~/.cache/popnet/data.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.beton.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    debug: DebugOption = False,
) -> None:
    """Write images to FFCV's format, for `loader: ffcv`; the checksum goes to OUT.beton.sha256.

    Example: popnet data write imagenet/train train.beton --max-resolution 500
    """
    from rich.progress import Progress

    from popnet.data.writing import Encoding, write

    chosen = Encoding.checked(encoding, max_resolution, quality)
    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(output.name, total=None)
        written = write(
            *(dataset, output, split, chosen, root, force),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    line = f"{output}: {written.examples:,} images, {written.size / 1e6:,.1f} MB, sha256 {written.checksum}"
    Console(soft_wrap=True, highlight=False).print(line, markup=False)


@store_app.command("verify")
def store_verify(store: StoreArgument, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check every file and entry against its digest, and list what nothing refers to. Only reads.

    Exit code 1 where something is damaged or missing; `popnet store repair` sets that aside.
    """
    from popnet.store import open_store
    from popnet.store.verify import HARMLESS, verify

    opened = open_store(store)
    findings = verify(opened)
    damaged = sum(finding.kind not in HARMLESS for finding in findings)
    rest = len(findings) - damaged
    say = _warn if as_json else _say
    if as_json:
        machine.write(findings)
    else:
        for finding in findings:
            _say(f"{finding.kind}: {finding.text}")
    say(f"{store}: {damaged or 'nothing'} damaged or missing, {rest} left over (popnet store prune)")
    if damaged:
        raise typer.Exit(1)


@store_app.command("repair")
def store_repair(store: StoreArgument, debug: DebugOption = False) -> None:
    """Set everything damaged aside, in the store's folder `damaged`: the next run trains again what lost something.

    Of a damaged ledger the entries that match their digests are kept.
    """
    from popnet.store.repair import repair

    if not repair(store, _say):
        _say(f"{store}: nothing is damaged")


@store_app.command("merge")
def store_merge(
    into: Annotated[Path, typer.Argument(metavar="INTO", help="The store that grows; made where there is none.")],
    sources: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Stores to take members from.")],
    wait: Annotated[bool, typer.Option("--wait", help="Where a run has INTO, wait until it ends.")] = False,
    debug: DebugOption = False,
) -> None:
    """Copy into one store the members that others have and it lacks: a population that was trained in parts.

    Exit code 1 where a member was left out, since it is damaged.

    Example: popnet store merge runs/all runs/first_half runs/second_half
    """
    from popnet.store import Store, open_store
    from popnet.store.merge import merge

    opened = [open_store(source) for source in sources]
    target = Store(into, create=True)
    target.lock(wait, _warn)
    left = 0
    try:
        for source in opened:
            merged = merge(target, source, _warn)
            left += len(merged.left)
            _say(f"{source.path}: {merged.taken} members taken, {merged.known} known")
    finally:
        target.unlock()
    if left:
        raise typer.Exit(1)


@store_app.command("export")
def store_export(
    store: StoreArgument,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A file, .npz or .parquet.")],
    row: Annotated[str | None, typer.Option(help="The members of one row of its tables; default: all.")] = None,
    debug: DebugOption = False,
) -> None:
    """Write the finished members to one file: what the ledger says of them, their histories, predictions and labels.

    To publish predictions, a folder for each row, there is `popnet export`.

    Example: popnet store export runs/mine mine.npz --row Baseline
    """
    from popnet.metrics.runs import named_population
    from popnet.store import open_store
    from popnet.store.export import export

    opened = open_store(store)
    members = None if row is None else [m.id for m in named_population(opened, row, str(store)).members]
    _say(f"{output}: {export(opened, output, members)} members")


@store_app.command("prune")
def store_prune(
    store: StoreArgument,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Also how far unfinished members are: they begin anew.")
    ] = False,
    unplanned: Annotated[
        bool, typer.Option("--unplanned", help="Also members that no experiment asks for, as it was last run here.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and remove nothing.")] = False,
    debug: DebugOption = False,
) -> None:
    """Remove what no member needs: half-written files, files of no finished member, what was set aside as damaged."""
    from popnet.metrics.stored import planned_members
    from popnet.store import open_store
    from popnet.store.prune import prune

    opened = open_store(store)
    opened.lock()
    try:
        pruned = prune(opened, planned_members(opened) if unplanned else None, checkpoints, dry_run)
    finally:
        opened.unlock()
    for path in pruned.files:
        _say(f"{path}")
    would = "would be " if dry_run else ""
    _say(
        f"{store}: {len(pruned.files)} files, {pruned.size / 1e6:,.1f} MB, and {len(pruned.members)} members "
        f"{would}removed"
    )


def _say(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def _warn(text: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)


_HOW_ESTIMATED = (
    "Hours: from the speed, just now, of a few training steps of each kind of recipe on random images, and a member on "
    "every core from beginning to end; other work on the machine while they were timed makes them too many."
)


def _print_costs(costs: Iterable[Cost], count: int, as_json: bool) -> None:
    """A line for each experiment of a folder, and their sum."""
    from rich.progress import track
    from rich.table import Table

    console = Console(stderr=True)
    found = list(track(costs, "estimating", total=count, console=console, transient=True))
    if as_json:
        machine.write(found)
        return
    table = Table("Experiment", box=None, pad_edge=False)
    for header in ("Asked", "Members", "New", "Epochs", "Saved", "Hours"):
        table.add_column(header, justify="right")
    for c in found:
        cells = f"{c.rows:,}", f"{c.members:,}", f"{c.new:,}", f"{c.epochs:,}", f"{c.saved:.0%}", _hours(c.hours, "")
        table.add_row(c.name, *cells)
    output = Console()
    output.print(table)
    epochs, asked = sum(c.epochs for c in found), sum(c.epochs_asked for c in found)
    known = [c.hours for c in found if c.hours is not None]
    output.print(
        f"{sum(c.rows for c in found):,} members asked for, {sum(c.new for c in found):,} different trainings, "
        f"{epochs:,} epochs: sharing saves {1 - epochs / max(asked, 1):.0%}."
    )
    if known:
        output.print(f"About {sum(known):,.0f} hours on this machine for the {len(known)} that can be estimated here.")
        output.print(_HOW_ESTIMATED)


def _hours(hours: float | None, unit: str = " hours") -> str:
    return "-" if hours is None else f"{hours:,.1f}{unit}" if hours < 100 else f"{hours:,.0f}{unit}"


def _planned(planned: Plan) -> dict[str, Any]:
    rows = [
        {"variant": p.name, "members": [m.id for m in p.members], "vary": p.variant.sources, "onset": p.variant.onset}
        for p in planned.populations
    ]
    epochs = sum(m.recipe.epochs for m in planned.members)
    return {"experiment": planned.experiment.name, "trainings": len(planned.members), "epochs": epochs, "rows": rows}


def _print_plan(planned: Plan, as_json: bool) -> None:
    from rich.table import Table

    if as_json:
        machine.write(_planned(planned))
        return
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


def _failures(result: Result) -> dict[str, str]:
    """The errors of the plan's failed members, by id."""
    ledger = result.store.members()
    planned = ledger.index.isin([m.id for m in result.plan.members])
    failed = ledger.loc[planned & (ledger["status"] == "failed"), "error"]
    return {str(member_id): str(error) for member_id, error in failed.items()}


def _print_table(result: Result, console: Console) -> pd.DataFrame:
    import pandas as pd

    from popnet.report.tables import published, render

    experiment = result.plan.experiment
    table = result.table()
    rows = [published(reference) for reference in experiment.published]
    beside = pd.concat(rows) if rows else None
    if beside is not None:
        beside = beside[~beside.index.duplicated()]
    render(table, experiment.description or experiment.name, beside, console)
    for member_id, error in _failures(result).items():
        console.print(f"member {member_id} failed: {error}", highlight=False, soft_wrap=True, markup=False)
    return table


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that popnet raises on purpose are printed as one sentence, see `EXIT_CODES`."""
    words = sys.argv[1:] if arguments is None else arguments
    command = typer.main.get_command(app)
    if "--allow-import" in words and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where one's own modules lie; last, so that they hide nothing
    try:
        command.main(words, prog_name="popnet")
    except PopnetError as error:
        from popnet.engine import Interrupted

        if "--debug" in words:
            traceback.print_exc()
        else:
            Console(stderr=True).print(f"popnet: {error}", highlight=False, soft_wrap=True, markup=False)
        sys.exit(error.code if isinstance(error, Interrupted) else 2)
    except Exception:
        traceback.print_exc()
        sys.stderr.write("popnet: this is a defect of popnet or of a part of yours: the traceback says which\n")
        sys.exit(70)
