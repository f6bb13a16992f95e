"""What is said about comparisons, powers and measured runs: one form, from which every medium follows (`answers`)."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from popnet.metrics.tails import t_reach
from popnet.metrics.wording import UNKNOWN_DIRECTION, number

if TYPE_CHECKING:
    from popnet.metrics.comparison import Comparison, TaskComparison
    from popnet.metrics.planning import PowerPlan
    from popnet.metrics.summaries import Description
    from popnet.results.found import Runs

MOST_RUNS = 10_000_000
"""Where `metrics.power.runs_needed` gives up."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that steer a terminal, turn the direction of a text, break its line or cannot be written."""


@dataclass(frozen=True)
class Shown:
    """What one source held.

    Attributes:
        name: as the user gave it; empty where it has none.
        found: as in `5 runs x 1,319 examples, matched by doc_id`.
        marks: what a reader must know of how it was read, each a clause.
        values: by metric, the number of each run, which figures show as dots; a metric that is missing has no dots.
    """

    name: str
    found: str
    marks: tuple[str, ...] = ()
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Runs) -> Shown:
        """Of what a reader found."""
        values = {metric: sample.values.tolist() for metric, sample in runs.samples.items()}
        return cls(runs.name, runs.found(), runs.marks, values)

    @classmethod
    def of_tasks(cls, tasks: Sequence[Runs]) -> Shown:
        """Of what a reader found on several tasks."""
        first, examples = tasks[0], [runs.examples for runs in tasks]
        counts = sorted({runs.count for runs in tasks})
        text = f"{len(tasks)} tasks, {' to '.join(f'{count:,}' for count in (counts[0], counts[-1])[: len(counts)])} "
        text += "run" if counts == [1] else "runs"
        if None not in examples:
            text += f" x {sum(count or 0 for count in examples):,} examples in all"
        if first.matched_by:
            text += f", matched by `{first.matched_by}`"
        return cls(first.name, text, tuple(dict.fromkeys(mark for runs in tasks for mark in runs.marks)))


@dataclass(frozen=True)
class Row:
    """A row of a table; `part` where it belongs to the row above it."""

    label: str
    cells: tuple[str, ...]
    part: bool = False


@dataclass(frozen=True)
class Table:
    """A table: `headers` are those of the columns after the rows' own, which `corner` heads."""

    corner: str
    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A row of a figure: a value with its interval, a wider interval around it, and dots; NaN is not drawn."""

    label: str
    value: float
    low: float
    high: float
    outer: tuple[float, float] = (math.nan, math.nan)
    dots: tuple[float, ...] = ()


@dataclass(frozen=True)
class Band:
    """Rows of a figure that share one axis, which `axis` names; `zero` where it has a line at 0."""

    marks: tuple[Mark, ...]
    axis: str
    zero: bool


@dataclass(frozen=True)
class Panel:
    """A figure: bands below one another; `caption` says what is drawn, `alt` what it shows to who does not see it."""

    title: str
    bands: tuple[Band, ...]
    caption: str
    alt: str


@dataclass(frozen=True)
class Answer:
    """All that an answer says. Its texts may hold names of files, which are made harmless where they are shown.

    Attributes:
        heading: of a page.
        sources: (letter, what it held); no letter where there is one source.
        opening: sentences before the tables.
        tables, sentences, warnings: in that order.
        panels: its figure.
    """

    heading: str
    sources: tuple[tuple[str, Shown], ...] = ()
    opening: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()


def of_comparisons(results: Sequence[Comparison], a: Shown, b: Shown) -> Answer:
    """Two sources: a column for each metric, then the result in plain words.

    Args:
        results: at least one, all of the same two sources.
    """
    one_run = results[0].members_a == 1
    lines = _one_run_rows(results[0]) if one_run else _many_run_rows(results[0])
    rows = []
    for label, part, cell in lines:
        cells = tuple(cell(result) for result in results)
        if any(cells):
            rows.append(Row(label, cells, part))
    return Answer(
        f"{a.name or 'A'} against {b.name or 'B'}",
        (("A", a), ("B", b)),
        tables=(Table("", tuple(_header(result.metric, result.unit) for result in results), tuple(rows)),),
        sentences=tuple(result.sentence() for result in results),
        panels=tuple(_panel(result, a, b) for result in results),
    )


def of_many(
    metric: str,
    names: Mapping[str, Shown],
    results: Mapping[tuple[str, str], tuple[Comparison, float]],
    confidence: float,
) -> Answer:
    """Several sources in one metric: a row for each pair, with p-values adjusted for their number (Holm).

    Args:
        names: by letter.
        results: as of `metrics.compare_all`, by pairs of letters.
        confidence: of the intervals; Holm's test is at 1 minus it.
    """
    compared = [result for result, _ in results.values()]
    header = _header(metric, compared[0].unit)
    arms = {letter: _arm(letter, results) for letter in names}
    means = tuple(Row(letter, (_mean_sd(mean, sd),)) for letter, (mean, sd, _) in arms.items())
    spread = "mean" if compared[0].members_a == 1 else "mean ± SD (n - 1)"
    alpha = round(1 - confidence, 12)  # 1 - 0.95 is a little above 0.05
    found = [f"{a} and {b}" for (a, b), (_, adjusted) in results.items() if adjusted < alpha]
    sentence = f"{len(results)} comparisons. After Holm's correction at {_share(alpha)}, these differ: "
    return Answer(
        f"{metric}: {', '.join(shown.name or letter for letter, shown in names.items())}",
        tuple(names.items()),
        tables=(Table(header, (spread,), means), _pairs_table(header, results, confidence)),
        sentences=(f"{sentence}{', '.join(found) or 'none'}.", *_reservations(compared)),
        panels=(_panel_of_many(header, metric, names, arms, results, confidence),),
    )


def of_tasks(found: TaskComparison, a: Shown, b: Shown) -> Answer:
    """Two sources on several tasks: a row for each task, then what they say together."""
    results = [result for result, _ in found.tasks.values()]
    confidence = results[0].confidence
    decimals = _decimals(results)
    one_metric = len({(result.metric, result.unit) for result in results}) == 1
    rows = []
    for task, (result, adjusted) in found.tasks.items():
        label = task if one_metric else f"{task}, {_header(result.metric, result.unit)}"
        rows.append(Row(label, _task_cells(result, adjusted, decimals)))
    if found.mean is not None:
        count = len(results) + len(found.skipped or {})  # tasks that tell nothing by themselves are in the mean
        rows.append(Row(f"mean of {count} tasks", _task_cells(found.mean, math.nan, decimals)))
    corner = f"task, {_header(results[0].metric, results[0].unit)}" if one_metric else "task"
    headers = ("A", "B", "A - B", f"{_share(confidence)} interval", "p", "p (Holm)")
    about = f", {results[0].metric}" if one_metric else ""
    return Answer(
        f"{a.name or 'A'} against {b.name or 'B'} on {len(results)} tasks{about}",
        (("A", a), ("B", b)),
        tables=(Table(corner, headers, tuple(rows), (_interval_note(results),)),),
        sentences=(found.sentence(),),
        panels=(_panel_of_tasks(found),),
    )


def of_power(plan: PowerPlan) -> Answer:
    """How many runs of each it takes, what fewer or more would find, and what that rests on."""
    spreads = " to ".join(dict.fromkeys(_both(s.sd_a, s.sd_b) for s in plan.sds))
    needed = list(dict.fromkeys(f"more than {MOST_RUNS:,}" if n is None else f"{n:,}" for n in plan.needed))
    difference = f"{number(plan.difference)}{f' {plan.unit}' if plan.unit else ''}"
    opening = (
        f"SD between runs: {spreads} ({plan.sds[-1].origin})",
        f"A difference of {difference} is found with a chance of {_share(plan.power)} by {' to '.join(needed)} runs "
        f"of each (two-sided test at {_share(plan.alpha)}, on one test set).",
    )
    rows = tuple(Row(f"{runs:,}", (f"{100 * chance:.0f}%", number(smallest))) for runs, chance, smallest in plan.rows)
    return Answer(
        f"Runs to find a difference of {difference}",
        opening=opening,
        tables=(
            Table(
                "runs of each", (f"chance to find {number(plan.difference)}", f"found with {_share(plan.power)}"), rows
            ),
        ),
        warnings=(plan.sds[-1].assumes,) if plan.sds[-1].assumes else (),
    )


def of_descriptions(found: Sequence[tuple[Shown, str, Sequence[Description]]]) -> Answer:
    """What `popnet measure` says of numbers: of one source a column for each metric, of several a row for each.

    Args:
        found: each source, its task (empty where it has none) and what was measured of it; at least one of each.
    """
    groups: list[list[tuple[Shown, str, Sequence[Description]]]] = []
    for one in found:
        same = bool(groups) and groups[-1][0][0].name == one[0].name
        if same and one[1] and one[1] not in (task for _, task, _ in groups[-1]):
            groups[-1].append(one)
        else:
            groups.append([one])
    letters = [letter(position) if len(groups) > 1 else "" for position in range(len(groups))]
    named = [((mark, task), shown, d) for mark, group in zip(letters, groups) for shown, task, d in group]
    if len(found) == 1:
        table = _description_columns(found[0][1], found[0][2])
    else:
        table = _description_table([(parts, d) for parts, _, described in named for d in described])
    sources = [_together([shown for shown, _, _ in group]) for group in groups]
    return Answer(
        ", ".join(shown.name or "measured" for shown in sources),
        tuple(zip(letters, sources)),
        tables=(table,),
        panels=_panels_of_descriptions(named),
    )


def _together(parts: Sequence[Shown]) -> Shown:
    """One source of several tasks."""
    if len(parts) == 1:
        return parts[0]
    marks = dict.fromkeys(mark for part in parts for mark in part.marks)
    found = {part.found for part in parts}
    tasks = f"{len(parts)} tasks"
    return Shown(parts[0].name, f"{tasks}, each {found.pop()}" if len(found) == 1 else tasks, tuple(marks))


def visible(text: str) -> str:
    """A text on one line, in which what would steer a terminal or a page is written out, as in `\\x1b`."""
    return "".join(
        c.encode("unicode_escape").decode("ascii") if unicodedata.category(c) in _HIDDEN else c for c in text
    )


def letter(index: int) -> str:
    """The name of a source by its position: A to Z, then AA, AB, ..."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


_Line = tuple[str, bool, "Callable[[Comparison], str]"]


def _many_run_rows(first: Comparison) -> list[_Line]:
    percent = _share(first.confidence)

    def wins(result: Comparison, known: bool) -> str:
        mine = (result.higher_is_better is not None) == known
        return f"{100 * result.wins:.0f}% of {_pairs(result)}" if mine else ""

    def wins_interval(result: Comparison, known: bool) -> str:
        mine = (result.higher_is_better is not None) == known
        return f"{100 * result.wins_low:.0f}% to {100 * result.wins_high:.0f}%" if mine else ""

    return [
        ("A, mean ± SD (n - 1)", False, lambda result: _mean_sd(result.mean_a, result.sd_a)),
        ("B, mean ± SD", False, lambda result: _mean_sd(result.mean_b, result.sd_b)),
        ("A - B", False, _difference),
        (f"{percent} interval, new runs", True, lambda result: _span(result.low, result.high)),
        ("new runs and new examples", True, lambda result: _span(result.low_new_examples, result.high_new_examples)),
        ("p-value", True, lambda result: _p(result.p_value)),
        ("A beats B", False, lambda result: wins(result, True)),
        (f"{percent} interval", True, lambda result: wins_interval(result, True)),
        ("A larger than B in", False, lambda result: wins(result, False)),
        (f"{percent} interval", True, lambda result: wins_interval(result, False)),
        ("genuine SD of A", False, lambda result: _genuine(result.distribution_sd_a, result.sd_a, result.mean_a)),
        ("genuine SD of B", False, lambda result: _genuine(result.distribution_sd_b, result.sd_b, result.mean_b)),
        ("clusters of examples", False, lambda result: _count(result.clusters)),
    ]


def _one_run_rows(first: Comparison) -> list[_Line]:
    def discordant(result: Comparison, position: int) -> str:
        return "" if result.discordant is None else f"{result.discordant[position]:,}"

    def p_value(result: Comparison, exact: bool) -> str:
        return _p(result.p_value) if (result.method == "mcnemar") == exact else ""

    # "Right" is an accuracy that is 1; of other scores with two values, only which run has the larger is known.
    high, low = ("right", "wrong") if first.unit == "points" and first.higher_is_better else ("larger", "smaller")
    return [
        ("A", False, lambda result: number(result.mean_a)),
        ("B", False, lambda result: number(result.mean_b)),
        ("A - B", False, _difference),
        (f"{_share(first.confidence)} interval, new examples", True, lambda result: _span(result.low, result.high)),
        ("p-value (McNemar's exact)", True, lambda result: p_value(result, True)),
        ("p-value", True, lambda result: p_value(result, False)),
        (f"A {high}, B {low}", False, lambda result: discordant(result, 0)),
        (f"A {low}, B {high}", False, lambda result: discordant(result, 1)),
        ("examples", False, lambda result: _count(result.examples)),
        ("clusters of examples", False, lambda result: _count(result.clusters)),
    ]


def _description_rows(confidence: float) -> list[tuple[str, bool, Callable[[Description], str]]]:
    interval = f"{_share(confidence)} interval"
    return [
        ("runs", False, lambda d: _count(d.members)),
        ("examples", False, lambda d: _count(d.examples)),
        ("clusters of examples", False, lambda d: _count(d.clusters)),
        ("mean", False, lambda d: number(d.mean)),
        (interval, True, lambda d: _range(d.mean_low, d.mean_high)),
        ("SD (n - 1)", False, lambda d: number(d.sd)),
        (interval, True, lambda d: _range(d.sd_low, d.sd_high)),
        ("lowest", False, lambda d: number(d.lowest) if d.members > 1 else ""),
        ("highest", False, lambda d: number(d.highest) if d.members > 1 else ""),
        ("genuine SD", False, lambda d: _genuine(d.distribution_sd, d.sd, d.mean)),
    ]


def _description_columns(task: str, described: Sequence[Description]) -> Table:
    rows = [
        Row(label, tuple(cell(d) for d in described), part)
        for label, part, cell in _description_rows(described[0].confidence)
    ]
    headers = tuple(_header(d.metric, d.unit) for d in described)
    return Table(task, headers, tuple(row for row in rows if any(row.cells)), _description_notes(described))


def _description_table(described: Sequence[tuple[tuple[str, str], Description]]) -> Table:
    """A row for each metric of each task of each source; what is the same in all of them is named once, above."""
    all_of = [d for _, d in described]
    several = len({(d.metric, d.unit) for d in all_of}) > 1
    labels = [
        ", ".join(part for part in (*parts, _header(d.metric, d.unit) if several else "") if part)
        for parts, d in described
    ]
    headers, cells, head = [], [], ""
    for label, part, cell in _description_rows(all_of[0].confidence):
        head = head if part else label.removesuffix(" (n - 1)")
        column = [cell(d) for d in all_of]
        if any(column):
            headers.append(f"{label} of {head}" if part else label)
            cells.append(column)
    corner = "" if several else _header(all_of[0].metric, all_of[0].unit)
    rows = tuple(Row(label, row) for label, row in zip(labels, zip(*cells, strict=True), strict=True))
    return Table(corner, tuple(headers), rows, _description_notes(all_of))


def _description_notes(described: Sequence[Description]) -> tuple[str, ...]:
    known = [d for d in described if not math.isnan(d.mean_low)]
    texts = []
    if any(d.members > 1 for d in known):
        texts.append("over new runs, on the same examples")
    if any(d.members == 1 for d in known):
        texts.append("of one run, over new examples")
    return (f"Intervals: {'; '.join(texts)}.",) if texts else ()


def _difference_cells(result: Comparison, adjusted: float, decimals: int | None) -> tuple[str, str, str, str]:
    span = _span(result.low, result.high, decimals)
    return _difference(result, decimals), span, _p(result.p_value), _p(adjusted)


def _task_cells(result: Comparison, adjusted: float, decimals: int | None) -> tuple[str, ...]:
    means = _aligned(result.mean_a, decimals), _aligned(result.mean_b, decimals)
    return (*means, *_difference_cells(result, adjusted, decimals))


def _decimals(results: Sequence[Comparison]) -> int | None:
    """How many decimals leave two digits of the narrowest interval, but at least two; None where they would be many."""
    widths = [result.high - result.low for result in results]
    known = [width / 2 for width in widths if math.isfinite(width) and width > 0]
    decimals = max(2, 1 - math.floor(math.log10(min(known)))) if known else 2
    return decimals if decimals <= 9 else None


def _pairs_table(header: str, results: Mapping[tuple[str, str], tuple[Comparison, float]], confidence: float) -> Table:
    """A row for each pair. How often the first wins is a matter of runs: of one run of each, it is left out."""
    compared = [result for result, _ in results.values()]
    decimals = _decimals(compared)
    wins = not any(result.members_a == 1 for result in compared)
    first = "first larger" if compared[0].higher_is_better is None else "first wins"
    rows = []
    for (a, b), (result, adjusted) in results.items():
        cells = _difference_cells(result, adjusted, decimals)
        rows.append(Row(f"{a} - {b}", (*cells, *([f"{100 * result.wins:.0f}%"] if wins else []))))
    headers = ("difference", f"{_share(confidence)} interval", "p", "p (Holm)", *([first] if wins else []))
    return Table(header, headers, tuple(rows), (_interval_note(compared),))


def _arm(letter: str, results: Mapping[tuple[str, str], tuple[Comparison, float]]) -> tuple[float, float, int]:
    """The mean, SD and number of runs of a source, which every comparison with it knows."""
    for (a, b), (result, _) in results.items():
        if letter == a:
            return result.mean_a, result.sd_a, result.members_a
        if letter == b:
            return result.mean_b, result.sd_b, result.members_b
    raise ValueError(f"no comparison is of {letter}")


def _interval_note(results: Sequence[Comparison]) -> str:
    if all(result.members_a == 1 for result in results):
        return "Intervals: over new examples."
    return "Intervals: over new runs, on the same examples."


def _reservations(results: Sequence[Comparison]) -> list[str]:
    """What limits all of several results, each in a sentence."""
    texts = []
    if any(result.members_a == 1 for result in results):
        texts.append("This says nothing about other seeds: one run of each was compared.")
    if any(result.higher_is_better is None for result in results):
        texts.append(UNKNOWN_DIRECTION)
    return texts


def _panel(result: Comparison, a: Shown, b: Shown) -> Panel:
    header = _header(result.metric, result.unit)
    outer = (result.low_new_examples, result.high_new_examples)
    difference = Band((_mark("A - B", result, outer),), "A - B", zero=True)
    alt = f"{header}, A minus B: {_difference(result)}, {_share(result.confidence)} interval "
    alt += f"{_span(result.low, result.high)}."
    percent = _share(result.confidence)
    if result.members_a == 1:
        return Panel(header, (difference,), f"The difference, with its {percent} interval over new examples.", alt)
    arms = tuple(
        _arm_mark(name, mean, sd, members, shown.values.get(result.metric, ()), result.confidence)
        for name, shown, mean, sd, members in (
            ("A", a, result.mean_a, result.sd_a, result.members_a),
            ("B", b, result.mean_b, result.sd_b, result.members_b),
        )
    )
    caption = f"{_arms_caption(arms)} and the difference, with their {percent} intervals over new runs"
    caption += "." if math.isnan(outer[0]) else "; the thin line: over new runs and new examples."
    return Panel(header, (Band(arms, _dots_axis(arms), zero=False), difference), caption, alt)


def _panel_of_many(
    header: str,
    metric: str,
    names: Mapping[str, Shown],
    arms: Mapping[str, tuple[float, float, int]],
    results: Mapping[tuple[str, str], tuple[Comparison, float]],
    confidence: float,
) -> Panel:
    marks = tuple(
        _arm_mark(letter, *arms[letter], shown.values.get(metric, ()), confidence) for letter, shown in names.items()
    )
    pairs = tuple(_mark(f"{a} - {b}", result) for (a, b), (result, _) in results.items())
    alt = f"{header} of {len(names)} sources, and the {len(pairs)} differences between them with their intervals."
    caption = f"{_arms_caption(marks)} and the differences, with their {_share(confidence)} intervals."
    bands = (Band(marks, _dots_axis(marks), zero=False), Band(pairs, "difference", zero=True))
    return Panel(header, bands, caption, alt)


def _panel_of_tasks(found: TaskComparison) -> Panel:
    confidence = next(iter(found.tasks.values()))[0].confidence
    groups: dict[str, list[Mark]] = {}
    for task, (result, _) in found.tasks.items():
        groups.setdefault(_header(result.metric, result.unit), []).append(_mark(task, result))
    if found.mean is not None and len(groups) == 1:
        only = next(iter(groups.values()))
        only.append(Mark("mean", found.mean.difference, found.mean.low, found.mean.high))
    bands = [Band(tuple(marks), f"A - B, {header}", zero=True) for header, marks in groups.items()]
    alt = f"The difference A - B with its interval on each of {len(found.tasks)} tasks."
    caption = f"The difference on each task, with its {_share(confidence)} interval."
    return Panel(f"{len(found.tasks)} tasks", tuple(bands), caption, alt)


def _panels_of_descriptions(
    found: Sequence[tuple[tuple[str, str], Shown, Sequence[Description]]],
) -> tuple[Panel, ...]:
    groups: dict[tuple[str, str], list[Mark]] = {}
    for parts, shown, described in found:
        for d in described:
            dots = tuple(shown.values.get(d.metric, ())) if d.members > 1 else ()
            one = Mark(", ".join(part for part in parts if part), d.mean, d.mean_low, d.mean_high, dots=dots)
            groups.setdefault((d.metric, d.unit), []).append(one)
    percent = _share(found[0][2][0].confidence)
    return tuple(
        Panel(
            _header(*metric),
            (Band(tuple(marks), _dots_axis(marks), zero=False),),
            f"{_arms_caption(marks)}, with its {percent} interval.",
            "; ".join(f"{mark.label or 'mean'} {number(mark.value)}" for mark in marks),
        )
        for metric, marks in groups.items()
    )


def _mark(label: str, result: Comparison, outer: tuple[float, float] = (math.nan, math.nan)) -> Mark:
    return Mark(label, result.difference, result.low, result.high, outer)


def _arm_mark(label: str, mean: float, sd: float, members: int, dots: Sequence[float], confidence: float) -> Mark:
    """A source: its runs, their mean and Student's interval of that mean."""
    if members < 2 or not math.isfinite(sd):
        return Mark(label, mean, math.nan, math.nan)
    reach = t_reach(confidence, members - 1) * sd / math.sqrt(members)
    return Mark(label, mean, mean - reach, mean + reach, dots=tuple(dots))


def _arms_caption(marks: Sequence[Mark]) -> str:
    return "Each run a dot; the mean" if any(mark.dots for mark in marks) else "The mean"


def _dots_axis(marks: Sequence[Mark]) -> str:
    return "each run, and the mean" if any(mark.dots for mark in marks) else "mean"


def _header(metric: str, unit: str) -> str:
    return f"{metric} ({unit})" if unit else metric


def _pairs(result: Comparison) -> str:
    return "matched pairs" if result.method.startswith("paired") else "pairs"


def _share(value: float) -> str:
    """A share in percent: 0.05 is 5%, and so is what is left of 1 without 0.95."""
    return f"{100 * value:.6g}%"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _both(first: float, second: float) -> str:
    return number(first) if first == second else f"{number(first)} and {number(second)}"


def _genuine(sd: float, between: float, mean: float) -> str:
    """The distribution-wise SD; where the estimate of its variance is negative, that variance.

    Variances are differences of sums of squares: an SD below 1e-6 of the SD between runs is their rounding.
    """
    if math.isnan(sd):
        return ""
    if abs(sd) <= max(1e-6 * between, 1e-8 * abs(mean)):
        return "0"
    return number(sd) if sd > 0 else f"none (variance {number(-sd * sd, 2)})"


def _difference(result: Comparison, decimals: int | None = None) -> str:
    rounding = 1e-12 * max(abs(result.mean_a), abs(result.mean_b))
    return _aligned(0.0 if abs(result.difference) <= rounding else result.difference, decimals, "+")


def _mean_sd(mean: float, sd: float) -> str:
    """Both with as many decimals as leave two digits of the SD, but at least two."""
    if math.isnan(sd):
        return number(mean)
    if sd == 0:
        return f"{number(mean)} ± 0"
    decimals = max(2, 1 - math.floor(math.log10(sd)))
    if decimals > 9 or abs(mean) >= 1e15:
        return f"{mean:.6g} ± {sd:.2g}"
    return f"{_fixed(mean, decimals)} ± {_fixed(sd, decimals)}"


def _span(low: float, high: float, decimals: int | None = None) -> str:
    return _ends(low, high, "+", decimals)


def _range(low: float, high: float) -> str:
    return _ends(low, high, "")


def _ends(low: float, high: float, sign: str, decimals: int | None = None) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    rounding = 1e-12 * max((abs(end) for end in (low, high) if math.isfinite(end)), default=0.0)
    low, high = (0.0 if abs(end) <= rounding else end for end in (low, high))
    return f"{_aligned(low, decimals, sign)} to {_aligned(high, decimals, sign)}"


def _aligned(value: float, decimals: int | None, sign: str = "") -> str:
    """With that many decimals, unless these leave nothing of it; None: as it is written where it stands alone."""
    if decimals is None or not 10.0**-decimals <= abs(value) < 1e15:
        return number(value, sign=sign)
    return f"{value:{sign},.{decimals}f}"


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "<0.0001" if value < 0.0001 else f"{value:.2g}"
