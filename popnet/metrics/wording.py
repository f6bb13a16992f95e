"""Comparisons in plain words: what was found, over what it holds, and what it says nothing about."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from popnet.metrics.tails import level

if TYPE_CHECKING:
    from popnet.metrics.comparison import Comparison, TaskComparison

UNKNOWN_DIRECTION = (
    "Whether larger is better, this metric's name does not tell: --higher-is-better or --lower-is-better."
)


def of_comparison(result: Comparison, name_a: str, name_b: str) -> str:
    """The sentences of a comparison."""
    lines = [_finding(result, name_a, name_b)]
    if not result.found and result.runs_needed is not None:
        lines.append(f"A true difference of that size would take about {result.runs_needed:,} runs of each to see.")
    if result.members_a == 1:
        lines.append("It says nothing about other seeds: one run of each was compared.")
    else:
        lines += [*_wins(result, name_a, name_b), *_doubts(result, name_a, name_b), *_new_examples(result)]
    if result.higher_is_better is None and result.difference:
        lines.append(UNKNOWN_DIRECTION)
    return " ".join(lines)


def of_tasks(result: TaskComparison, name_a: str, name_b: str) -> str:
    """The sentences of a comparison on several tasks: on how many A is better and worse, and the mean over them."""
    comparisons = list(result.tasks.values())
    first = comparisons[0][0]
    alpha = level(first.confidence)
    found = [c.difference > 0 for c, adjusted in comparisons if adjusted < alpha]
    direction = first.higher_is_better
    ups = sum(found) if direction is not False else len(found) - sum(found)
    better, worse = ("larger", "smaller") if direction is None else ("better", "worse")
    count = f"{len(comparisons)} task{'' if len(comparisons) == 1 else 's'}"
    lines = [f"{name_a} is {better} on {ups} of {count} and {worse} on {len(found) - ups} (Holm, {100 * alpha:g}%)."]
    lines += [
        f"{task} tells nothing: {why}{'' if why.endswith('?') else '.'}" for task, why in (result.skipped or {}).items()
    ]
    if result.mean is not None:
        lines.append(of_comparison(result.mean, name_a, name_b))
    elif direction is None:
        lines.append(UNKNOWN_DIRECTION)
    return " ".join(lines)


def with_sources(source_a: str, source_b: str, sentence: str) -> list[str]:
    """The lines of an answer: what was compared, where that is known, and the sentences."""
    both = ("A", source_a), ("B", source_b)
    sources = [f"{letter}: {source.removeprefix(f'{letter}, ')}" for letter, source in both if source]
    return [*sources, sentence]


def _finding(result: Comparison, name_a: str, name_b: str) -> str:
    up = result.difference > 0
    first, second = (name_a, name_b) if up == (result.higher_is_better is not False) else (name_b, name_a)
    better, ahead = ("larger", "larger") if result.higher_is_better is None else ("better", "ahead")
    quantity = "cross-entropy" if result.metric == "cross_entropy" else result.metric
    percent = f"{100 * result.confidence:g}%"
    numbers = (
        f"{percent} interval {number(result.low, sign='+')} to {number(result.high, sign='+')}, {_p(result.p_value)}"
    )
    scope = ""
    if result.members_a == 1:
        scope = f" on {result.examples:,} examples ({_test(result)})"
    else:
        numbers += f", {result.members_a} and {result.members_b} runs"
    unit = f" {result.unit}" if result.unit else ""
    size = f"{number(abs(result.difference))}{unit} of {quantity}"
    if not result.difference:
        return f"{name_a} and {name_b} have the same mean {quantity} ({numbers}){scope}."
    if result.found:
        return f"{first} is {better} than {second} by {size} ({name_a} minus {name_b}: {numbers}){scope}."
    what = "These results" if result.members_a == 1 else "These runs"
    return (
        f"{what} do not tell {name_a} from {name_b}: {first} is {ahead} by {size} "
        f"({name_a} minus {name_b}: {numbers}){scope}."
    )


def _test(result: Comparison) -> str:
    """What the interval of one run of each is over, and its test."""
    clusters = f"{result.clusters:,} clusters" if result.clusters else ""
    if result.method == "mcnemar":
        assert result.discordant is not None
        test = f"McNemar's exact test, {result.discordant[0]:,} against {result.discordant[1]:,}"
    elif result.method == "tasks":
        return f"interval over new examples of these tasks{', in ' if clusters else ''}{clusters}"
    else:
        test = f"Student's t over {clusters or 'examples'}"
    return f"interval over new {'clusters of ' if clusters else ''}examples; {test}"


def _wins(result: Comparison, name_a: str, name_b: str) -> list[str]:
    if not result.difference:
        return []
    pairs = "matched pairs of runs" if result.method.startswith("paired") else "pairs of runs"
    beats = "beats" if result.higher_is_better is not None else "is larger than"
    return [
        f"{name_a} {beats} {name_b} in {100 * result.wins:.0f}% of {pairs} "
        f"({100 * result.wins_low:.0f}% to {100 * result.wins_high:.0f}%)."
    ]


def _doubts(result: Comparison, name_a: str, name_b: str) -> list[str]:
    """What the interval over runs rests on and should not: copies of one run, or 2 runs against many."""
    arms = ((name_a, result.mean_a, result.sd_a), (name_b, result.mean_b, result.sd_b))
    lines = [
        f"All runs of {name} have the same value: were they trained with different seeds?"
        for name, mean, sd in arms
        if sd <= 1e-12 * abs(mean)
    ]
    fewest, most = sorted((result.members_a, result.members_b))
    if (fewest == 2 and most > 2) or (fewest == 3 and most >= 10):
        simulated = "2 against 10 90%" if fewest == 2 else "3 against 20 93%"
        lines.append(
            f"With {fewest} runs against {most}, fewer than {100 * result.confidence:g}% of such intervals cover: in "
            f"simulation, of {simulated} of those meant for 95%."
        )
    return lines


def _new_examples(result: Comparison) -> list[str]:
    if math.isnan(result.low_new_examples) or not result.difference:
        return []
    interval = f"{number(result.low_new_examples, sign='+')} to {number(result.high_new_examples, sign='+')}"
    if result.holds_for_new_examples:
        return [f"Other test examples would show it too: for new runs on new examples, {interval}."]
    if result.found:
        return [
            f"That is a fact about these test examples: for new runs on new examples the interval is {interval}, "
            "and a larger test set, not more runs, would narrow it."
        ]
    return [f"For new runs on new examples, {interval}."]


def number(value: float, digits: int = 3, sign: str = "") -> str:
    """Two decimals; below 1 that many digits. Written out, but for sizes that nobody writes out; NaN is left empty."""
    if math.isnan(value):
        return ""
    size = abs(value)
    if size == 0 or math.isinf(value):
        return f"{value:{sign}g}" if size else "0"
    if not 1e-9 <= size < 1e15:
        return f"{value:{sign}.{digits - 1}e}"
    if size >= 1:
        return f"{value:{sign},.2f}"
    text = f"{value:{sign}.{digits - 1 - math.floor(math.log10(size))}f}"
    return text.rstrip("0").rstrip(".")


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.2g}"
