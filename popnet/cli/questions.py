"""Is it real? `popnet measure`, `compare`, `power`, `stability` and `theory`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from popnet import machine
from popnet.cli.options import (
    AllowImportOption,
    ClusterOption,
    DebugOption,
    DeviceOption,
    ExperimentArgument,
    GroupOption,
    IdColumnOption,
    IgnoreOption,
    JsonOption,
    LabelsOption,
    LastOption,
    MetricOption,
    OverridesArgument,
    ProbabilitiesOption,
    RepeatColumnOption,
    ResultsScaleOption,
    SeedColumnOption,
    StoreOption,
    TaskColumnOption,
    WhereOption,
    reading,
)
from popnet.cli.output import check_writable, say, say_what_is_shipped, standard_error, standard_output, warn
from popnet.errors import ConfigError

if TYPE_CHECKING:
    from popnet.questions import Many, Pair, Tasks
    from popnet.report.answers import Answer
    from popnet.results.found import Options

_SOURCE = (
    "A table (.csv, .tsv, .jsonl, .parquet), arrays (.npy, .npz, .pt, .safetensors) or a folder of them, evaluation "
    'logs (lm-evaluation-harness, Inspect), a store or one of its rows ("runs/base:All Nondeterminism Sources"), an '
    "experiment that was run. FILE:VALUE picks a group, row or task."
)

MarkdownOption = Annotated[
    bool, typer.Option("--markdown", help="Print the answer as Markdown, to paste into a pull request.")
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write the answer as a page with a figure.")
]


def measure(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help=_SOURCE)],
    labels: LabelsOption = None,
    metric: MetricOption = None,
    where: WhereOption = None,
    group: GroupOption = None,
    seed_column: SeedColumnOption = None,
    id_column: IdColumnOption = None,
    repeat_column: RepeatColumnOption = None,
    task_column: TaskColumnOption = None,
    cluster: ClusterOption = None,
    last: LastOption = False,
    ignore: IgnoreOption = None,
    probabilities: ProbabilitiesOption = None,
    scale: ResultsScaleOption = "auto",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the intervals.")] = 0.95,
    ensemble_cross_entropy: Annotated[
        bool,
        typer.Option("--ensemble-cross-entropy", help="Of logits: also the cross-entropy of every pair's ensemble."),
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write the rows to this file, unrounded.")] = None,
    markdown: MarkdownOption = False,
    html: HtmlOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how much the runs of anyone's results vary. SDs have n - 1 in the denominator.

    Logits and stores get a row for each population, with the metrics of Summers & Dinneen (2021); tables and
    predictions the mean and SD of each metric, with intervals.

    Example: popnet measure logits.npy --labels labels.npy

    Example: popnet measure results.csv --metric accuracy
    """
    for path in (csv, html):
        check_writable(path)
    options = reading(
        labels=labels,
        metric=metric,
        where=where,
        group=group,
        seed_column=seed_column,
        id_column=id_column,
        repeat_column=repeat_column,
        task_column=task_column,
        cluster=cluster,
        last=last,
        ignore=ignore,
        probabilities=probabilities,
        scale=scale,
    )
    from popnet.cli.measuring import measure_sources

    measure_sources(
        _groups(sources, options), options, confidence, ensemble_cross_entropy, csv, markdown, html, as_json
    )


def compare(
    sources: Annotated[list[str], typer.Argument(metavar="A B [C]...", help=_SOURCE)],
    metric: MetricOption = None,
    higher: Annotated[
        bool | None,
        typer.Option(
            "--higher-is-better/--lower-is-better", help="Where the metric's name does not tell; docs/your-results.md."
        ),
    ] = None,
    labels: LabelsOption = None,
    where: WhereOption = None,
    group: GroupOption = None,
    seed_column: SeedColumnOption = None,
    id_column: IdColumnOption = None,
    repeat_column: RepeatColumnOption = None,
    task_column: TaskColumnOption = None,
    cluster: ClusterOption = None,
    last: LastOption = False,
    ignore: IgnoreOption = None,
    intersect: Annotated[
        bool, typer.Option("--intersect", help="Leave out examples and tasks that a source lacks.")
    ] = False,
    probabilities: ProbabilitiesOption = None,
    scale: ResultsScaleOption = "auto",
    paired: Annotated[
        bool | None, typer.Option("--paired/--unpaired", help="Match runs by seed; default: where all seeds match.")
    ] = None,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Studentised bootstrap instead of Student's t.")
    ] = False,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the intervals.")] = 0.95,
    markdown: MarkdownOption = False,
    html: HtmlOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Is A better than B? The difference with its intervals, how often A wins, and the answer in plain words.

    Several runs of each are compared by Welch's t-test, or as matched pairs where their seeds are the same; one run of
    each by its answers on the examples. More than two sources are compared in pairs, and several tasks one by one, with
    p-values corrected for their number (Holm).

    Example: popnet compare mine.csv baseline.csv

    \b
    A - B                                      +0.38
    95% interval, new runs       +0.0836 to +0.676
    p-value                                  0.024
    A beats B                  100% of matched pairs
    A is better than B by 0.38 points of accuracy (A minus B: 95% interval
    +0.0836 to +0.676, p = 0.024, 5 and 5 runs).

    Example: popnet compare sweep.csv --group model --metric val_acc

    Example: popnet compare "is_it_real:Half the rate" is_it_real:Baseline (after popnet run is_it_real)

    \b
    These runs do not tell A from B: A is ahead by 0.0667 points of accuracy
    (95% interval -0.307 to +0.441, p = 0.71, 20 and 20 runs). A true
    difference of that size would take about 1,128 runs of each to see.
    """
    check_writable(html)
    options = reading(
        labels=labels,
        metric=metric,
        where=where,
        group=group,
        seed_column=seed_column,
        id_column=id_column,
        repeat_column=repeat_column,
        task_column=task_column,
        cluster=cluster,
        last=last,
        ignore=ignore,
        probabilities=probabilities,
        scale=scale,
    )
    from popnet.questions import Judging, Pair, compare_sources

    judging = Judging(higher, paired, "bootstrap" if bootstrap else "welch", confidence)
    named = _groups(sources, options)
    found = compare_sources(named, options, judging, intersect=intersect)
    if as_json:
        machine.write(_plain(found))
    answers = _answers(found, judging)
    if not as_json:
        _print(answers, markdown)
    _write_page(answers, html)
    if isinstance(found, Pair) and not (as_json or markdown):
        _suggest_power(found, named, options)


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
    metric: MetricOption = None,
    labels: LabelsOption = None,
    where: WhereOption = None,
    group: GroupOption = None,
    seed_column: SeedColumnOption = None,
    id_column: IdColumnOption = None,
    repeat_column: RepeatColumnOption = None,
    task_column: TaskColumnOption = None,
    last: LastOption = False,
    ignore: IgnoreOption = None,
    probabilities: ProbabilitiesOption = None,
    scale: ResultsScaleOption = "auto",
    markdown: MarkdownOption = False,
    html: HtmlOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """How many runs of each does it take to see a difference?

    From measured SDs (--from, --sd), or, before any repetition, from a single run by the calibration formula (--error,
    or --from a source that holds one run).

    Example: popnet power --difference 0.3 --from is_it_real:Baseline

    \b
    SD between runs: 0.736 (measured over 20 runs of runs/is_it_real:Baseline)
    A difference of 0.3 points is found with a chance of 80% by 96 runs of
    each (two-sided test at 5%, on one test set).

    Example: popnet power --difference 0.2 --error 5.6 --examples 10000 --classes 10

    \b
    SD between runs: 0.0806 to 0.17 (expected from an error of 5.6% on 10,000
    examples, 10 classes)
    A difference of 0.2 points is found with a chance of 80% by 5 to 13 runs
    of each (two-sided test at 5%, on one test set).
    """
    check_writable(html)
    if [bool(source), bool(sd), error is not None].count(True) != 1:
        raise ConfigError("give one of --from, --sd and --error")
    options = reading(
        labels=labels,
        metric=metric,
        where=where,
        group=group,
        seed_column=seed_column,
        id_column=id_column,
        repeat_column=repeat_column,
        task_column=task_column,
        last=last,
        ignore=ignore,
        probabilities=probabilities,
        scale=scale,
    )
    from popnet.metrics import planning
    from popnet.questions import measured_sds
    from popnet.report import answers

    if source:
        sds, unit = measured_sds(source, options, distribution_sd)
    elif sd:
        sds, unit = planning.given_sds(sd), ""
    else:
        assert error is not None
        sds, unit = planning.expected_sds(error, examples, classes, distribution_sd), "points"
    needed = planning.power_plan(difference, sds, wanted, alpha, unit)
    answer = answers.of_power(needed)
    if as_json:
        machine.write(needed)
    else:
        _print([answer], markdown)
    _write_page([answer], html)


def _groups(sources: list[str], options: Options) -> list[str]:
    """One table and --group COLUMN stand for all groups of the column; other sources for themselves."""
    from popnet.results import sources as forms

    if options.group is None or len(sources) != 1:
        return sources
    path, value = forms.split(sources[0])
    if value is not None or forms.form_of(path) != "table":
        return sources
    from popnet.results.tables.files import read_table
    from popnet.results.tables.layout import groups_of_table

    return [f"{sources[0]}:{name}" for name in groups_of_table(read_table(path), options)]


def _plain(found: Pair | Tasks | Many) -> list[dict[str, Any]]:
    """A list of comparisons: with the sources' names and the sentence of each."""
    from popnet.questions import Many, Tasks

    if isinstance(found, Many):
        return [
            {"a": found.sources[a].name, "b": found.sources[b].name, **machine.plain(result), "p_value_holm": adjusted}
            | {"sentence": result.sentence(a, b)}
            for pairs in found.results.values()
            for (a, b), (result, adjusted) in pairs.items()
        ]
    if isinstance(found, Tasks):
        names = {"a": found.a[0].name, "b": found.b[0].name}
        rows = [
            {**names, "task": task, **machine.plain(result), "p_value_holm": adjusted, "sentence": result.sentence()}
            for tasks in found.results.values()
            for task, (result, adjusted) in tasks.tasks.items()
        ]
        rows += [
            {**names, "task": task, "metric": metric, "skipped": why}
            for metric, tasks in found.results.items()
            for task, why in (tasks.skipped or {}).items()
        ]
        means = [tasks.mean for tasks in found.results.values() if tasks.mean is not None]
        return rows + [{**names, "task": None, **machine.plain(m), "sentence": m.sentence()} for m in means]
    names = {"a": found.a.name, "b": found.b.name}
    return [{**names, **machine.plain(result), "sentence": result.sentence()} for result in found.results]


def _answers(found: Pair | Tasks | Many, judging: Any) -> list[Answer]:
    from popnet.questions import Many, Tasks
    from popnet.report import answers

    if isinstance(found, Many):
        shown = {letter: answers.Shown.of(r) for letter, r in found.sources.items()}
        return [answers.of_many(metric, shown, pairs, judging.confidence) for metric, pairs in found.results.items()]
    if isinstance(found, Tasks):
        a, b = (answers.Shown.of_tasks(tasks) for tasks in (found.a, found.b))
        return [answers.of_tasks(tasks, a, b) for tasks in found.results.values()]
    a, b = (answers.Shown.of(r) for r in (found.a, found.b))
    return [answers.of_comparisons(found.results, a, b)]


def _print(answers: list[Answer], markdown: bool) -> None:
    from popnet.report import answers as media

    for number, answer in enumerate(answers):
        if markdown:
            say(media.markdown(answer))
        else:
            if number:
                say("")
            media.console(answer, standard_output())


def _write_page(answers: list[Answer], html: Path | None) -> None:
    if html is None:
        return
    from popnet.report import answers as media

    html.write_text(media.html(answers), encoding="utf-8")
    warn(f"written: {html}")


def _suggest_power(found: Pair, sources: list[str], options: Options) -> None:
    """How many runs such a difference takes: only where `popnet power` can say it from these sources."""
    from popnet import next_steps

    result = found.results[0]
    if result.members_a < 2 or result.members_b < 2 or not result.difference or not result.sd_a * result.sd_b:
        return
    words = ["popnet", "power", "--difference", f"{abs(result.difference):.2g}"]
    for source in sources:
        words += ["--from", source]
    words += ["--metric", result.metric]
    next_steps.show(standard_error(), [*words, *_reading_words(options)])


def _reading_words(options: Options) -> list[str]:
    """The options of reading as words of a command, but --metric."""
    words = [] if options.labels is None else ["--labels", str(options.labels)]
    for column, value in options.where:
        words += ["--where", f"{column}={value}"]
    for name in ("group", "seed_column", "id_column", "repeat_column", "task_column"):
        if getattr(options, name) is not None:
            words += [f"--{name.replace('_', '-')}", getattr(options, name)]
    for column in options.ignore:
        words += ["--ignore", column]
    words += ["--last"] if options.last else []
    if options.probabilities is not None:
        words.append("--probabilities" if options.probabilities else "--logits")
    return words + ([] if options.scale == "auto" else ["--scale", options.scale])


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
    from popnet.report.stability import render_stability

    targets = steady.parse_targets(target) if target else steady.DEFAULT_TARGETS
    console = standard_error(quiet)
    say_what_is_shipped(experiment)
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
        tell=lambda so_far: render_stability(so_far, console),
    )
    if as_json:
        machine.write(outcome)
    else:
        render_stability(outcome, standard_output())
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
    from popnet.report import theory
    from popnet.results.found import Options
    from popnet.results.reading import only, read

    found = [only(read(source, Options(labels=labels))) for source in sources]
    theory.check_enough(found)
    check_writable(output / f"{name}.md")
    written = theory.write(found, output, name, title)
    if as_json:
        known = {"populations": theory.summaries(found), "published": theory.published_of(found)}
        machine.write({"report": written, **known})
    else:
        say(f"report in {written}")
