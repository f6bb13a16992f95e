"""How answers look: one form, and the console, Markdown and HTML that follow from it."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from popnet.metrics.comparison import Comparison, TaskComparison
from popnet.metrics.planning import PowerPlan, Sds
from popnet.metrics.samples import Sample
from popnet.metrics.summaries import Description
from popnet.report import answer_figure, answers, comparisons
from popnet.report.answers import Answer, Shown
from popnet.results.found import Runs

NAN = math.nan
HOSTILE = "x<script>alert(1)</script>|$x$*`@me`[red]\x1b[31m:smile:\n\u202e\udc80#12.csv"


def comparison(**changed: Any) -> Comparison:
    values: dict[str, Any] = {
        **{"metric": "accuracy", "unit": "points", "higher_is_better": True, "members_a": 5, "members_b": 5},
        **{"mean_a": 91.58, "mean_b": 91.2, "sd_a": 0.31, "sd_b": 0.28, "difference": 0.38},
        **{"low": 0.0836, "high": 0.676, "low_new_examples": -0.12, "high_new_examples": 0.88, "p_value": 0.024},
        **{"method": "paired", "wins": 1.0, "wins_low": 0.57, "wins_high": 1.0, "distribution_sd_a": 0.21},
        **{"distribution_sd_b": -0.42426, "sd_differences": 0.2, "confidence": 0.95},
    }
    return Comparison(**(values | changed))


def one_run(**changed: Any) -> Comparison:
    values: dict[str, Any] = {
        **{"members_a": 1, "members_b": 1, "sd_a": NAN, "sd_b": NAN, "difference": 1.36, "low": 0.2, "high": 2.1},
        **{"mean_a": 92.56, "low_new_examples": NAN, "high_new_examples": NAN, "p_value": 0.03, "method": "mcnemar"},
        **{"distribution_sd_a": NAN, "distribution_sd_b": NAN, "sd_differences": NAN, "discordant": (40, 22)},
        "examples": 1319,
    }
    return comparison(**(values | changed))


def unknown(**changed: Any) -> Comparison:
    missing = dict.fromkeys(("low_new_examples", "high_new_examples", "distribution_sd_a", "distribution_sd_b"), NAN)
    return comparison(**({"metric": "score", "unit": "", "higher_is_better": None, "wins": 0.9} | missing | changed))


def description(**changed: Any) -> Description:
    values: dict[str, Any] = {
        **{"metric": "accuracy", "unit": "points", "members": 5, "examples": 1319, "mean": 91.58, "mean_low": 91.1},
        **{"mean_high": 92.0, "sd": 0.31, "sd_low": 0.2, "sd_high": 0.9, "lowest": 91.0, "highest": 92.1},
        **{"distribution_sd": 0.2, "confidence": 0.95},
    }
    return Description(**(values | changed))


def single(**changed: Any) -> Description:
    return description(members=1, sd=NAN, sd_low=NAN, sd_high=NAN, distribution_sd=NAN, **changed)


def source(name: str, **changed: Any) -> Shown:
    values: dict[str, Any] = {"found": "5 runs x 1,319 examples, matched by `doc_id`", "marks": ("shares as percent",)}
    return Shown(name, **(values | changed))


def two(*results: Comparison, a: str = "mine.csv", b: str = "base.csv") -> Answer:
    shown = source(a, values={"accuracy": [91.2, 91.4, 91.6, 91.8, 92.0]}), source(b)
    return answers.of_comparisons(results or (comparison(),), *shown)


def many(confidence: float = 0.95, name: str = "a.csv", **changed: Any) -> Answer:
    pairs = {
        ("A", "B"): (comparison(confidence=confidence, **changed), 0.03),
        ("A", "C"): (comparison(confidence=confidence, difference=0.12, low=-0.2, high=0.44, **changed), 0.6),
        ("B", "C"): (comparison(confidence=confidence, difference=-0.26, low=-0.5, high=-0.02, **changed), 0.07),
    }
    names = {"A": source(name), "B": source("b.csv"), "C": source("c.csv", marks=())}
    return answers.of_many("accuracy", names, pairs, confidence)


def tasks(names: tuple[str, ...] = ("arc", "mmlu", "gsm8k"), **changed: Any) -> TaskComparison:
    results = {
        name: (comparison(difference=0.38 + i, low=i - 0.1, high=i + 0.8), 0.072) for i, name in enumerate(names)
    }
    return TaskComparison(results, **({"mean": comparison(metric="mean accuracy")} | changed))


def plan(origin: str = "measured over 20 runs of base.csv", needed: tuple[int | None, ...] = (5, 13)) -> PowerPlan:
    sds = (Sds(0.08, 0.08, origin), Sds(0.17, 0.17, origin, "It rests on calibration."))
    return PowerPlan(0.3, 0.8, 0.05, sds, needed, ((2, 0.1, 1.2), (5, 0.4, 0.5), (13, 0.8, 0.3)))


EVERY: dict[str, Callable[[str], Answer]] = {
    "comparison": lambda name: two(a=name),
    "several metrics": lambda name: two(comparison(), unknown(metric=name), a=name, b=name),
    "one run": lambda name: two(one_run(metric=name), a=name),
    "many": lambda name: many(name=name),
    "tasks": lambda name: answers.of_tasks(tasks((name, "mmlu")), source(name), source("b.csv")),
    "power": lambda name: answers.of_power(plan(name)),
    "measured": lambda name: answers.of_descriptions([(source(name), "", [description(metric=name)])]),
    "measured sources": lambda name: answers.of_descriptions(
        [(source(name), name, [description()]), (source("b"), "", [single(), single(metric="f1", unit="")])]
    ),
}


def printed(answer: Answer, width: int = 80) -> str:
    file = io.StringIO()
    answers.console(answer, Console(file=file, width=width, highlight=False, force_terminal=True, color_system=None))
    return file.getvalue()


def cells(text: str, label: str) -> str:
    """What stands behind a row's label on the console."""
    (line,) = [line for line in text.splitlines() if re.match(rf" *{re.escape(label)}  ", line)]
    return line.strip().removeprefix(label).strip()


class Page(HTMLParser):
    """Which elements and attributes a page has, its text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.names: set[str] = set()
        self.text = ""
        self.plain: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in {"meta", "br", "path", "use"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"path", "use"}:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "code" not in self._open:
            self.plain.append(data)


def test_two_sources_are_printed_as_a_column_for_each_metric() -> None:
    text = printed(two(comparison(), unknown()), 100)
    assert "A: mine.csv, 5 runs x 1,319 examples, matched by `doc_id`\n   shares as percent\nB: base.csv" in text
    assert cells(text, "A, mean ± SD (n - 1)").split("   ")[0] == "91.58 ± 0.31"
    assert text.count("n - 1") == 1
    assert cells(text, "95% interval, new runs").split("   ")[0] == "+0.0836 to +0.676"
    assert cells(text, "A beats B") == "100% of matched pairs"
    assert cells(text, "A larger than B in") == "90% of matched pairs"
    assert cells(text, "genuine SD of B") == "none (variance -0.18)"
    assert comparison().sentence().split(" (")[0] in text


def test_of_an_unknown_direction_nothing_is_better() -> None:
    for answer in (two(unknown()), many(higher_is_better=None), two(one_run(higher_is_better=None))):
        for text in (printed(answer, 400), answers.markdown(answer), Page(answers.html(answer)).text):
            assert not re.search(r"\b(beats|wins|ahead)\b|\bis better than\b", text)
            assert "--higher-is-better or --lower-is-better" in text
    assert "first larger" in printed(many(higher_is_better=None), 120)


def test_one_run_against_one_run_is_about_examples() -> None:
    text = printed(two(one_run()))
    assert cells(text, "A") == "92.56"
    assert cells(text, "95% interval, new examples") == "+0.2 to +2.10"
    assert cells(text, "p-value (McNemar's exact)") == "0.03"
    assert (cells(text, "A right, B wrong"), cells(text, "A wrong, B right")) == ("40", "22")
    assert cells(text, "examples") == "1,319"
    assert "SD" not in text
    clustered = printed(two(one_run(method="clusters", discordant=None, clusters=50)))
    assert cells(clustered, "p-value") == "0.03"
    assert cells(clustered, "clusters of examples") == "50"
    assert "McNemar" not in clustered
    assert [band.axis for panel in two(one_run()).panels for band in panel.bands] == ["A - B"]


@pytest.mark.parametrize(
    ("confidence", "level", "found"),
    [(0.95, "5%", "A and B"), (0.9, "10%", "A and B, B and C"), (0.99, "1%", "none"), (0.999, "0.1%", "none")],
)
def test_the_level_of_holms_test_follows_the_confidence(confidence: float, level: str, found: str) -> None:
    answer = many(confidence)
    assert answer.sentences[0].endswith(f"After Holm's correction at {level}, these differ: {found}.")
    assert f"{100 * confidence:g}% interval" in answer.tables[1].headers


def test_several_runs_of_one_run_each_say_so() -> None:
    pairs = {("A", "B"): (one_run(), 0.05), ("A", "C"): (one_run(), 0.05), ("B", "C"): (one_run(), 0.05)}
    answer = answers.of_many("accuracy", {name: source(name) for name in "ABC"}, pairs, 0.95)
    assert answer.sentences[0].endswith("none.")
    assert "says nothing about other seeds" in answer.sentences[1]
    assert answer.tables[0].headers == ("mean",)
    assert answer.tables[1].notes == ("Intervals: over new examples.",)
    assert "first wins" not in answer.tables[1].headers


def test_tasks_have_a_row_each_and_their_mean() -> None:
    answer = answers.of_tasks(tasks(), source("a.csv"), source("b.csv"))
    (table,) = answer.tables
    assert table.corner == "task, accuracy (points)"
    assert [row.label for row in table.rows] == ["arc", "mmlu", "gsm8k", "mean of 3 tasks"]
    assert table.rows[1].cells == ("91.58", "91.20", "+1.38", "+0.90 to +1.80", "0.024", "0.072")
    assert table.rows[3].cells[-1] == ""
    assert answer.sentences == (tasks().sentence(),)
    assert [mark.label for mark in answer.panels[0].bands[0].marks] == ["arc", "mmlu", "gsm8k", "mean"]


def test_tasks_of_several_metrics_do_not_share_an_axis() -> None:
    mixed = TaskComparison({"arc": (comparison(), 0.1), "squad": (comparison(metric="f1", unit=""), 0.2)})
    answer = answers.of_tasks(mixed, source("a"), source("b"))
    assert [row.label for row in answer.tables[0].rows] == ["arc, accuracy (points)", "squad, f1"]
    assert [band.axis for band in answer.panels[0].bands] == ["A - B, accuracy (points)", "A - B, f1"]


def test_power_says_what_it_takes_and_what_it_rests_on() -> None:
    text = printed(answers.of_power(plan()), 200)
    assert "SD between runs: 0.08 to 0.17 (measured over 20 runs of base.csv)" in text
    assert "with a chance of 80% by 5 to 13 runs of each (two-sided test at 5%, on one test set)." in text
    assert cells(text, "13").split() == ["80%", "0.3"]
    assert "Warning: It rests on calibration." in text
    assert "by more than 10,000,000 runs" in " ".join(printed(answers.of_power(plan(needed=(None, None)))).split())


def test_measured_runs_are_columns_of_one_source_and_rows_of_several() -> None:
    text = printed(answers.of_descriptions([(source("a.csv"), "", [description(), single(metric="f1", unit="")])]))
    assert text.startswith("a.csv, 5 runs")
    assert cells(text, "runs").split() == ["5", "1"]
    assert cells(text, "SD (n - 1)") == "0.31"
    assert "Intervals: over new runs, on the same examples; of one run, over new examples." in text
    parts = [(source("a"), "arc", [description()]), (source("a"), "mmlu", [description()])]
    answer = answers.of_descriptions([*parts, (source("b"), "", [single()])])
    assert [mark for mark, _ in answer.sources] == ["A", "B"]
    assert answer.sources[0][1].found == "2 tasks, each 5 runs x 1,319 examples, matched by `doc_id`"
    assert [row.label for row in answer.tables[0].rows] == ["A, arc", "A, mmlu", "B"]
    assert answer.tables[0].headers[3:6] == ("95% interval of mean", "SD (n - 1)", "95% interval of SD")
    twice = answers.of_descriptions([(source("a"), "", [description()])] * 2)
    assert [mark for mark, _ in twice.sources] == ["A", "B"]


def test_sources_have_letters_beyond_26() -> None:
    assert [answers.letter(i) for i in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (NAN, ""),
        (0.0000123, "0.0000123"),
        (0.99996, "1"),
        (0.5, "0.5"),
        (91.2345, "91.23"),
        (-1234567.891, "-1,234,567.89"),
        (8.67e-19, "8.67e-19"),
        (1e20, "1.00e+20"),
        (math.inf, "inf"),
    ],
)
def test_numbers_are_written_out(value: float, text: str) -> None:
    assert comparisons.number(value) == text


@pytest.mark.parametrize(
    ("changed", "label", "text"),
    [
        ({"distribution_sd_a": 8.67e-19}, "genuine SD of A", "0"),
        ({"distribution_sd_a": -8.67e-10}, "genuine SD of A", "0"),
        ({"difference": 1.39e-17}, "A - B", "0"),
        ({"low": 8.67e-19}, "95% interval, new runs", "0 to +0.676"),
        ({"p_value": 0.0}, "p-value", "<0.0001"),
        ({"p_value": 0.00012}, "p-value", "0.00012"),
        ({"sd_a": 0.0}, "A, mean ± SD (n - 1)", "91.58 ± 0"),
        ({"sd_a": 0.0000123}, "A, mean ± SD (n - 1)", "91.580000 ± 0.000012"),
        ({"mean_a": 12345.678, "sd_a": 4.2}, "A, mean ± SD (n - 1)", "12,345.68 ± 4.20"),
        ({"mean_b": -0.0001, "sd_b": 0.31}, "B, mean ± SD", "0.00 ± 0.31"),
        ({"low": -math.inf, "high": math.inf}, "95% interval, new runs", "-inf to +inf"),
    ],
)
def test_what_is_rounding_is_zero(changed: dict[str, float], label: str, text: str) -> None:
    assert cells(printed(two(comparison(**changed))), label) == text


def test_tasks_share_their_decimals_but_no_number_vanishes() -> None:
    fine = comparison(difference=0.0003, low=0.00012, high=0.00048)
    answer = answers.of_tasks(TaskComparison({"a": (fine, 0.1), "b": (comparison(low=-3e-6), 0.1)}), *[source("x")] * 2)
    assert answer.tables[0].rows[0].cells[2:4] == ("+0.00030", "+0.00012 to +0.00048")
    assert answer.tables[0].rows[1].cells[3] == "-0.000003 to +0.67600"


def test_what_is_not_known_is_left_out() -> None:
    empty = comparison(low_new_examples=NAN, high_new_examples=NAN, distribution_sd_a=NAN, distribution_sd_b=NAN)
    text = printed(two(empty))
    assert "new examples\n" not in text
    assert "genuine SD" not in text
    assert "nan" not in text


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("width", [60, 72, 80, 100, 120])
def test_a_console_of_any_width_shows_every_cell_whole(kind: str, width: int) -> None:
    answer = EVERY[kind]("a_rather_long_name_of_a_column.csv")
    text = printed(answer, width)
    tables = [line for line in text.splitlines() if "  " in line.strip() or "─" in line]
    assert max(map(cell_len, tables)) <= width
    assert "…" not in text
    for table in answer.tables:
        for cell in {cell for row in table.rows for cell in row.cells}:
            assert cell in text


@pytest.mark.parametrize("kind", EVERY)
def test_names_do_nothing_on_a_console(kind: str) -> None:
    text = printed(EVERY[kind](HOSTILE), 200)
    assert not set(text) & set("\x1b\u202e\udc80\r")
    text.encode()
    folded = re.sub(r"\s+", "", text)
    for part in ("[red]\\x1b[31m:smile:\\n\\u202e", "<script>alert(1)</script>|$x$*`@me`"):
        assert part in folded


@pytest.mark.parametrize("kind", EVERY)
def test_names_do_nothing_in_markdown(kind: str) -> None:
    text = answers.markdown(EVERY[kind](HOSTILE))
    text.encode()
    assert not set(text) & set("\x1b\u202e\udc80")
    page = Page(MarkdownIt("commonmark").enable("table").render(text))
    assert set(page.tags) <= {"ul", "li", "strong", "code", "p", "span", "table", "thead", "tbody", "tr", "th", "td"}
    assert re.search(r"<script>alert\(1\)</script>\|\$x\$\*(`@me`|@me)\[red\]\\x1b\[31m:smile:\\n\\u202e", page.text)
    cells = [(len(table.rows) + 1) * (len(table.headers) + 1) for table in EVERY[kind](HOSTILE).tables]
    assert page.tags.count("td") + page.tags.count("th") == sum(cells)
    for plain in page.plain:  # GitHub looks for these in each text that is not code
        assert not re.search(r"@\w|#\d|:\w+:|\$\w", plain)


def test_markdown_is_a_table_to_paste() -> None:
    assert answers.markdown(two()).splitlines() == [
        "- **A**: `mine.csv`, 5 runs x 1,319 examples, matched by `doc_id` (shares as percent)",
        "- **B**: `base.csv`, 5 runs x 1,319 examples, matched by `doc_id` (shares as percent)",
        "",
        "|  | accuracy (points) |",
        "| :-- | --: |",
        "| A, mean ± SD (n - 1) | 91.58 ± 0.31 |",
        "| B, mean ± SD | 91.20 ± 0.28 |",
        "| A - B | +0.38 |",
        "| &emsp;95% interval, new runs | +0.0836 to +0.676 |",
        "| &emsp;new runs and new examples | -0.12 to +0.88 |",
        "| &emsp;p-value | 0.024 |",
        "| A beats B | 100% of matched pairs |",
        "| &emsp;95% interval | 57% to 100% |",
        "| genuine SD of A | 0.21 |",
        "| genuine SD of B | none (variance -0.18) |",
        "",
        comparison().sentence(),
    ]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("1. one", "1\\. one"),
        ("- one", "\\- one"),
        ("+0.38 of it", "+0.38 of it"),
        ("see #12 and @you", "see \\#<!-- -->12 and @<!-- -->you"),
        ("https://x.org, www.x.org", "https://<!-- -->x.org, www<!-- -->.x.org"),
        ("a :smile: at 12:30", "a :<!-- -->smile: at 12:30"),
        ("<b> a|b & ~c~ $d$", "\\<b\\> a\\|b \\& \\~c\\~ <span>$</span>d<span>$</span>"),
        ("by `doc_id`, not `", "by `doc_id`, not \\`"),
    ],
)
def test_markdown_of_plain_text_stays_plain(text: str, escaped: str) -> None:
    assert answers.markdown(Answer("", sentences=(text,))) == f"{escaped}\n"


def test_a_code_span_holds_any_name() -> None:
    for name, span in (("a`b``c", "```a`b``c```"), ("`a", "`` `a ``"), ("a\nb", "`a\\nb`")):
        assert answers.markdown(Answer("", sources=(("", Shown(name, "")),))) == f"- {span}\n"


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("medium", ["html", "fragment"])
def test_names_do_nothing_in_html(kind: str, medium: str) -> None:
    text = getattr(answers, medium)(EVERY[kind](HOSTILE))
    text.encode()
    page = Page(text)
    assert not set(page.tags) & {"script", "img", "iframe", "link", "a", "b"}
    assert not {name for name in page.names if name.startswith("on") or name in {"src", "href"}}
    assert len(page.ids) == len(set(page.ids))
    assert "x<script>alert(1)</script>|$x$*`@me`[red]\\x1b[31m:smile:\\n\\u202e\\udc80#12.csv" in page.text
    assert not set(text) & set("\x1b\u202e\udc80")


def test_a_page_is_for_itself() -> None:
    page = answers.html(two())
    assert "https://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "default-src 'none'" in page
    assert "width=device-width" in page
    assert "--series-0: #6db4f2;" in page.split("prefers-color-scheme: dark")[1]
    assert Page(page).text.index("A is better") < Page(page).text.index("mean ± SD")


def test_a_page_holds_several_answers() -> None:
    page = Page(answers.html([two(), many(), two()]))
    assert page.tags.count("h1") == 3
    assert page.tags.count("html") == 1
    assert page.tags.count("table") == 4


def test_a_figure_shows_each_run_the_means_and_the_difference() -> None:
    (panel,) = two().panels
    arms, difference = panel.bands
    assert [len(mark.dots) for mark in arms.marks] == [5, 0]
    assert arms.marks[0].low == pytest.approx(91.58 - 2.776445 * 0.31 / math.sqrt(5))
    assert (difference.marks[0].low, difference.marks[0].high) == (0.0836, 0.676)
    assert difference.marks[0].outer == (-0.12, 0.88)
    document = answer_figure.panel_svg(panel)
    assert document == answer_figure.panel_svg(panel)
    drawn = answer_figure.draw([panel])
    for part in ("var(--series-0, #0b66b0)", "currentColor", 'role="img"', "accuracy (points)", panel.caption):
        assert part in drawn
    assert "#1b1e23" not in drawn


@pytest.mark.parametrize(
    "changed",
    [
        {"low": NAN, "high": NAN},
        {"low": -math.inf, "high": math.inf},
        {"mean_a": NAN, "sd_a": NAN},
        {"sd_a": 0.0, "sd_b": 0.0, "mean_b": 91.58, "difference": 0.0, "low": 0.0, "high": 0.0},
    ],
)
def test_a_figure_bears_what_is_not_finite(changed: dict[str, float]) -> None:
    assert answer_figure.draw(two(comparison(**changed)).panels).count("<svg") == 1


def test_a_thousand_equal_dots_stay_in_their_row() -> None:
    heights = answer_figure._stacked(np.full(1000, 91.2), (91.2, 91.2))
    assert heights.min() == 0
    assert heights.max() <= 0.17
    assert len(np.unique(answer_figure._stacked(np.array([1.0, 1.0, 2.0]), (1.0, 2.0)))) == 2


def test_without_matplotlib_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "<svg" not in answers.comparison_html(comparison())
    page = answers.html(two())
    assert "<svg" not in page
    assert "matplotlib is not installed" in page
    assert "matplotlib" not in answers.html(two(), figure=False)


def test_a_notebook_shows_a_comparison() -> None:
    page = Page(answers.comparison_html(comparison()))
    assert "A5 runs" in page.text
    assert "svg" in page.tags
    assert "1 run x 1,319 examples" in Page(answers.comparison_html(one_run())).text
    assert "mean of 3 tasks" in Page(answers.tasks_html(tasks())).text
    assert "two-sided test" in Page(answers.power_html(plan())).text


def test_a_notebook_shows_any_table() -> None:
    frame = pd.DataFrame(
        {
            "members": [100, 20],
            "accuracy_sd": [0.26, np.nan],
            "accuracy_sd_error": [0.02, np.nan],
            "marks": [["a", "<b>"], []],
            "done": [True, None],
            "when": [pd.Timestamp("2024-01-02"), pd.NaT],
            "loss": [0.0000123, 12345.678],
        },
        index=pd.Index(["<script>", "b"], name="variant"),
    )
    page = Page(answers.table_html(frame))
    assert "script" not in page.tags
    for text in ("variant", "<script>", "0.26 ± 0.02", "a; <b>", "0.0000123", "12,345.68", "2024-01-02"):
        assert text in page.text
    assert "nan" not in page.text.casefold()
    assert "NaT" not in page.text
    assert "accuracy sd error" not in page.text
    long = Page(answers.table_html(pd.DataFrame({"x": range(100)})))
    assert long.tags.count("tr") == 61
    assert "40 more rows" in long.text


def test_what_a_reader_found_is_shown_with_its_runs() -> None:
    runs = Runs("a.csv", {"accuracy": Sample.of_values([91.0, 92.0])}, marks=("percent",))
    assert Shown.of(runs) == Shown("a.csv", "2 runs", ("percent",), {"accuracy": [91.0, 92.0]})


def test_answers_are_light() -> None:
    heavy = ["torch", "matplotlib", "pandas", "scipy", "popnet.native", "popnet.config", "popnet.store"]
    code = f"import sys, popnet.report.answers; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
