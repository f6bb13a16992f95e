"""Is it real? `popnet measure`, `compare`, `power`, `stability` and `theory`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from popnet import machine
from popnet.cli.options import (
    AllowImportOption,
    DebugOption,
    DeviceOption,
    ExperimentArgument,
    JsonOption,
    LabelsOption,
    OverridesArgument,
    StoreOption,
)
from popnet.cli.output import check_writable, say, standard_error, standard_output
from popnet.errors import ConfigError

_SOURCE = (
    'A store (runs/base), one of its rows ("runs/base:All Nondeterminism Sources"), an experiment that was run, a file '
    "of predictions (.npz, .npy, .safetensors) or a table of numbers (.csv)."
)


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

    check_writable(csv)
    table = measure_file(predictions, labels, ensemble_cross_entropy=ensemble_cross_entropy)
    if as_json:
        machine.write(table)
    else:
        render(table, str(predictions), console=standard_output())
    if csv is not None:
        csv.write_text(table.to_csv())


def compare(
    sources: Annotated[list[str], typer.Argument(metavar="A B [C]...", help=_SOURCE)],
    metric: Annotated[
        list[str] | None, typer.Option(help="accuracy, cross_entropy or a column; default: all that there are.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of a CSV file; a column `seed` matches runs.")] = None,
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
        comparisons.render_comparison(results, a.name, b.name, standard_output())
        if names[0] == "accuracy" and column is None and results[0].difference:
            difference = f"{abs(results[0].difference):.2g}"
            words = ["popnet", "power", "--difference", difference, "--from", sources[0], "--from", sources[1]]
            next_steps.show(standard_error(), words)
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
        comparisons.render_all(name, {letter: r.name for letter, r in letters.items()}, pairs, standard_output())
    if as_json:
        machine.write(answers)


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
        comparisons.render_power(needed, standard_output())


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
    console = standard_error(quiet)
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
        comparisons.render_stability(outcome, standard_output())
    if not outcome.steady:
        raise typer.Exit(1)


def theory(
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
    check_writable(output / f"{name}.md")
    written = theory.write(read, output, name, title)
    if as_json:
        machine.write({"report": written, "populations": theory.summaries(read)})
    else:
        say(f"report in {written}")
