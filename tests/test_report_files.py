"""The report as files: HTML in a real browser, LaTeX through pdflatex, CSV, and the command line."""

from __future__ import annotations

import copy
import io
import itertools
import json
import re
import shutil
import subprocess
from html import escape as escaped
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from markdown_it import MarkdownIt
from rich.console import Console
from safetensors.torch import load_file, save_file

import popnet
from popnet import cli
from popnet.cli.output import check_writable
from popnet.config import from_mapping
from popnet.errors import ConfigError, DataError, StoreError
from popnet.report.beside import beside
from popnet.report.content import Figure, Line, Panel, Report, Section, Table
from popnet.report.document import METHODS, build
from popnet.report.drawing import composed
from popnet.report.files import write
from popnet.report.html import render_html, themed
from popnet.report.latex import escape, render_latex
from popnet.report.long_form import long_form
from popnet.report.markdown import render_markdown
from popnet.report.measured import measure
from popnet.report.panels import Line as Series
from popnet.report.panels import bars, dots, histogram, lines, swatch
from popnet.report.quantities import Value
from popnet.report.terminal import print_report
from popnet.report.verdicts import Verdict
from popnet.results.found import Options
from popnet.results.measuring import measured_logits
from popnet.results.stores.plans import stored_plans
from popnet.results.stores.populations import variability_table
from popnet.store import Store


@pytest.fixture(scope="module")
def depths(tmp_path_factory) -> Path:
    """A store with representations of two layers, and twins of which every epoch's weights are kept."""
    content = copy.deepcopy(TINY) | {
        "measure": ["variability", "similarity", "divergence"],
        "variants": [
            {"name": "Parameter Initialization", "vary": ["init"]},
            {"name": "Data Shuffling", "vary": ["shuffle"]},
            {"name": "Twins", "cross": {"bit": [0, 1, 2, 3]}},
        ],
    }
    content["recipe"] |= {
        "model": "hidden_fc",
        "keep": ["predictions", "trajectory"],
        "features": {"layers": ["fc1", ""], "examples": 20},
    }
    folder = tmp_path_factory.mktemp("report") / "depths"
    popnet.run(from_mapping(content), folder, workers=2)
    return folder


@pytest.fixture(scope="module")
def built(reported):
    return build([reported])


@pytest.fixture(scope="module")
def page(built) -> str:
    return render_html(built[0])


class Outline(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def test_the_page_is_whole_in_itself_and_accessible(page):
    outline = Outline(page)
    tags = [tag for tag, _ in outline.tags]
    assert "script" not in tags
    addresses = [v for _, a in outline.tags for n, v in a.items() if n in ("src", "href", "xlink:href")]
    assert all(address.startswith(("#", "data:,")) for address in addresses)
    assert not re.search(r"url\((?!#)", page)
    assert ("html", {"lang": "en"}) in outline.tags
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:]))
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "every id once, those inside figures too"
    for _, attributes in outline.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(attributes.get(name, "").split()) <= set(ids)
    assert all("scope" in attributes for tag, attributes in outline.tags if tag == "th")
    assert tags.count("caption") == tags.count("table")
    images = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert all(image.get("role") == "img" or image.get("aria-hidden") == "true" for image in images)
    assert sum("role" in image for image in images) == tags.count("desc") == page.count("</title>") - 1
    boxes = [attributes for _, attributes in outline.tags if "scroll" in attributes.get("class", "").split()]
    assert all(box["tabindex"] == "0" and box["role"] == "region" for box in boxes)


def test_equal_stores_give_equal_bytes(reported, page):
    assert render_html(build([reported])[0]) == page


def test_every_row_and_the_reasons_for_what_is_missing_are_there(page, built):
    report, evidence = built
    for row in evidence[0].measured.rows:
        assert row.name in page
    assert "Beside Summers &amp; Dinneen (2021), Table 5" in page
    assert "Published, not measured here: " in page
    assert "In none of the published tables: " in page
    assert re.search(r"member [0-9a-f]{24} failed: ", page)
    assert "Not the published experiment in full." in page
    assert "data: synthetic" in page
    assert "0.871 to 0.957" in page, "why the two papers' percentages differ"
    for _, claim in report.claims:
        assert escaped(claim.where) in page


AWKWARD = 'a_b & 50% of #1 {x} \\ ~ ^ < > "q" `c` ± Δ ρ − – ¹²³ é ł 日本 $5'


def awkward_report() -> Report:
    table = Table(AWKWARD, AWKWARD, (AWKWARD, "(in %)"), (Line(AWKWARD, (AWKWARD, "")),), (AWKWARD,))
    svg = histogram([1.0, 2.0, 2.5], "<&>", "x")
    figure = Figure(AWKWARD, AWKWARD, AWKWARD, (Panel(AWKWARD, svg),), ((0, "one"), (1, "<two>")))
    section = Section(AWKWARD, ((AWKWARD, AWKWARD),), (AWKWARD,), (AWKWARD,), (table,), (figure,))
    return Report(AWKWARD, (section, section), AWKWARD, METHODS)


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="needs pdflatex: apt-get install texlive-latex-base texlive-latex-recommended",
)
@pytest.mark.parametrize("which", ["awkward", "trained"])
def test_latex_compiles(built, tmp_path, which):
    (tmp_path / "report.tex").write_text(render_latex(built[0] if which == "trained" else awkward_report()))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_latex_is_escaped_and_uses_booktabs(built):
    assert escape("a_b & 5%") == r"a\_b \& 5\%"
    text = render_latex(built[0])
    for rule in (r"\usepackage{booktabs}", r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in text
    assert text == render_latex(built[0])


def test_html_is_escaped():
    page = render_html(awkward_report())
    assert "<two>" not in page
    assert "&lt;two&gt;" in page
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "sections and figures of one name"


def test_markdown_is_escaped_and_shows_every_figure_by_a_file():
    text, figures = render_markdown(awkward_report(), "mine")
    shown = MarkdownIt("commonmark").enable("table").render(text)
    page = Outline(shown)
    assert "<two>" not in text
    assert [attributes["src"] for tag, attributes in page.tags if tag == "img"] == list(figures), (
        "also where two figures have one title"
    )
    assert len(figures) == 2
    assert all(name.startswith("mine-") for name in figures)
    text, figures = render_markdown(awkward_report(), "my (first) report é")
    page = Outline(MarkdownIt("commonmark").enable("table").render(text))
    assert [unquote(attributes["src"]) for tag, attributes in page.tags if tag == "img"] == list(figures)
    plain = unescape(re.sub(r"<!--.*?-->|<[^>]+>", "", shown))
    assert plain.count(AWKWARD) == 1 + 2 * (1 + 1 + 4 + 1 + 1), "headings and cells; elsewhere `c` is code"
    assert plain.count(AWKWARD.replace("`", "")) == 1 + 2 * (1 + 1 + 1 + 1 + 1)
    cells = sum(tag in ("td", "th") for tag, _ in page.tags)
    assert cells == 2 * 2 * 3
    for svg in figures.values():
        root = ElementTree.fromstring(svg)
        assert "<two>" in {"".join(one.itertext()) for one in root}, "the legend"
        ids = [one.get("id") for one in root.iter() if one.get("id")]
        assert len(ids) == len(set(ids))


def test_panels_and_legend_of_a_composed_figure_lie_inside_and_apart():
    panel = lines({"a": Series([0, 1], [1.0, 2.0])}, "title", "x")
    legend = [(swatch(i), f"series number {i}, of a name that is long") for i in range(9)]
    root = ElementTree.fromstring(composed([panel] * 5, legend, "five", "panels"))
    _, _, width, height = map(float, root.get("viewBox").split())
    boxes = [[float(one.get(key)) for key in ("x", "y", "width", "height")] for one in root if one.get("viewBox")]
    assert len(boxes) == 5 + 9
    assert all(x >= 0 and y >= 0 and x + w <= width + 0.1 and y + h <= height + 0.1 for x, y, w, h in boxes)
    for (x, y, w, h), (left, top, across, high) in itertools.combinations(boxes, 2):
        assert x + w <= left + 0.1 or left + across <= x + 0.1 or y + h <= top + 0.1 or top + high <= y + 0.1
    alone = ElementTree.fromstring(composed([panel], (), "one", "panel"))
    assert len([one for one in alone if one.get("viewBox")]) == 1


def test_figures_take_the_page_s_colours():
    line = Series([1, 2, 5], [0.1, 0.2, 0.4], [0.05, 0.1, 0.3], [0.2, 0.3, 0.5], style=1)
    for svg in (
        lines({"a": line}, "title", "x", logarithmic_x=True),
        lines({"a": Series([0, 1], [1.0, 2.0], errors=[0.1, 0.2])}, "title", "x", from_zero=True),
        bars(["Conv1", "Logits"], {name: [Value(0.5, 0.1), Value(0.6)] for name in "ab"}, "CKA"),
        dots({"Control": Value(0.0, 0.0), "Bit": Value(2.5, 0.3), "One run": Value(1.0)}, "disagreement"),
    ):
        inline = themed(svg, "one", "a title", "a description")
        assert "currentColor" in inline
        assert "var(--series-" in inline
        assert not re.search(r"(?<!-)#[0-9a-f]{6}", inline), "no colour is fixed"
        assert 'id="one-title"' in inline


def test_the_command_writes_every_format(reported, tmp_path, capsys):
    from popnet.cli import main

    html, markdown, latex, csv = (tmp_path / "deep" / f"report.{kind}" for kind in ("html", "md", "tex", "csv"))
    files = ["--html", str(html), "--markdown", str(markdown), "--latex", str(latex), "--csv", str(csv)]
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(reported), *files, "--title", "Mine"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "The papers' claims" in out
    assert "Beside Summers & Dinneen (2021), Table 5" in out
    assert "<h1>Mine</h1>" in html.read_text()
    text = markdown.read_text()
    assert text.startswith("# Mine\n")
    figures = re.findall(r"^!\[.*\]\((report-[a-z-]+\.svg)\)$", text, re.MULTILINE)
    assert {markdown.with_name(name) for name in figures} == set(markdown.parent.glob("*.svg"))
    assert "report-rows-beside-each-other.svg" in figures
    table = pd.read_csv(csv)
    assert set(table["experiment"]) == {"tiny"}
    assert table.loc[table["table"].notna(), "published"].notna().any()


def test_a_terminal_report_of_several_stores(reported, trained):
    console = Console(file=io.StringIO(), width=80)
    report, evidence = build([reported, trained.store.path], figures=False)
    print_report(report, evidence, console)
    text = console.file.getvalue()
    assert text.count("2 members failed and are not counted.") == 2
    assert not any(section.figures for section in report.sections)


def test_what_cannot_be_reported_is_an_error_before_any_work(tmp_path):
    with pytest.raises(StoreError, match="no popnet store"):
        build([tmp_path / "none"])
    empty = Store(tmp_path / "empty", create=True)
    with pytest.raises(DataError, match="no finished runs"):
        build([empty.path])
    with pytest.raises(ConfigError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        check_writable(tmp_path / "file" / "report.html")
    check_writable(tmp_path / "new" / "report.html")
    assert not (tmp_path / "new" / "report.html").exists()


def test_the_first_figure_sets_all_measured_rows_beside_each_other(built):
    report, evidence = built
    figure = report.sections[0].figures[0]
    assert figure.title == "Rows beside each other"
    assert [panel.title for panel in figure.panels] == ["Pairwise Disagree (%)", "Accuracy SD (%)"]
    for row in evidence[0].measured.rows:
        measured = row.values["disagreement"].known
        assert all((f">{row.name}" in panel.svg) == measured for panel in figure.panels), row.name


def test_representations_and_twins_have_their_figures_tables_and_claims(depths):
    report, evidence = build([depths])
    (section,) = report.sections
    titles = [figure.title for figure in section.figures]
    assert {"Similarity of representations", "How twins part"} <= set(titles)
    twins = next(table for table in section.tables if table.caption == "How twins part")
    assert [line.label for line in twins.lines[-5:]] == [f"Twins, epoch {epoch}" for epoch in range(5)]
    cka = evidence[0].measured.rows[0].similarity
    assert list(cka.layers) == ["fc1", "logits"]
    assert all(0 < layer.value.value < 1 and layer.value.error > 0 for layer in cka.layers.values())
    statements = [claim.statement for claim in section.claims]
    assert any("layers differ more than twice as much" in statement for statement in statements)
    (moved,) = (claim for claim in section.claims if "One changed bit moves the final result" in claim.statement)
    assert moved.measured.verdict is Verdict.NOT_COMPARABLE, "1e7 is ResNet-14's, after 500 epochs"
    why = "condition numbers are of ResNet-14 on CIFAR-10 after 500 epochs: other data: synthetic, and the paper"
    assert why in moved.measured.why
    page = render_html(report)
    assert why in page
    assert escaped("Judged of this network itself, hidden_fc on synthetic: none of the papers trained it") in page
    assert why in render_latex(report)


def test_members_that_diverged_are_marked_and_counted_and_get_no_verdict(reported, tmp_path):
    folder = Path(shutil.copytree(reported, tmp_path / "diverged"))
    store = Store(folder)
    (plan,) = stored_plans(store)
    (bit,) = (population for population in plan.populations if population.name == "Random Bit Change")
    path = store.predictions_path(bit.members[1].id)
    tensors = load_file(path)
    save_file({**tensors, "predictions": -1e9 * tensors["predictions"]}, path)

    report, evidence = build([folder], figures=False)
    (row,) = (row for row in evidence[0].measured.rows if row.name == "Random Bit Change")
    mark = "1 of 6 diverged or learnt nothing: at chance"
    assert (row.diverged, row.members) == (1, 6)
    assert mark in row.marks
    assert row.values["cross_entropy_sd"].value > 1e8, "counted, not dropped"
    assert sum(row.diverged for row in evidence[0].measured.rows) == 1
    section = report.sections[0]
    (line,) = (line for line in section.tables[0].lines if line.label.startswith("Random Bit Change"))
    assert line.cells[0] == "6 (1 diverged)"
    assert any(mark in note for note in section.tables[0].notes)
    (claim,) = (claim for claim in section.claims if "A linear model is stable" in claim.statement)
    assert claim.measured.verdict is Verdict.NOT_COMPARABLE
    assert claim.measured.why == "1 of 6 members of Random Bit Change are no better than guessing"
    console = Console(file=io.StringIO(), width=80)
    print_report(report, evidence, console)
    text = console.file.getvalue()
    assert re.search(r" \d\.\de\+\d\d±\de\+\d\d ", text)
    reduction = next(part for part in text.split("Beside ") if "Variab" in part and "Table 5" in part)
    assert "Variability" in reduction, "nine columns fit 80 characters"
    assert "not comparable" in text
    assert claim.measured.why in " ".join(text.split())
    lines = long_form(evidence)
    assert set(lines.loc[lines["variant"] == "Random Bit Change", "diverged"]) == {1}
    table = variability_table(plan, store)
    assert table["diverged"].tolist() == [int(name == "Random Bit Change") for name in table.index]
    assert mark in table.loc["Random Bit Change", "marks"]


def test_a_member_that_is_sure_and_wrong_but_mostly_right_is_told_from_one_at_chance(reported, tmp_path, capsys):
    folder = Path(shutil.copytree(reported, tmp_path / "sure"))
    store = Store(folder)
    (plan,) = stored_plans(store)
    (bit,) = (population for population in plan.populations if population.name == "Random Bit Change")
    for member, sign in ((bit.members[1], -1e9), (bit.members[2], 1e9)):
        tensors = load_file(store.predictions_path(member.id))
        logits = sign * tensors["predictions"]
        logits[:, :2] *= -1  # two are wrong, whatever the others are
        save_file({**tensors, "predictions": logits}, store.predictions_path(member.id))
    (row,) = (row for row in measure([folder])[0].rows if row.name == "Random Bit Change")
    assert (row.diverged, row.overconfident) == (2, 1)

    with pytest.raises(SystemExit):
        cli.main(["measure", str(folder), "--json"])
    marks = {line["variant"]: line["marks"] for line in json.loads(capsys.readouterr().out)}
    said = "1 of 6 diverged or learnt nothing: at chance"
    assert marks["Random Bit Change"].startswith(f"{said}; 1 of 6 with cross-entropy above ln 3 at ")
    assert set(row.marks) <= set(marks["Random Bit Change"].split("; ")), "as the report says it"
    assert [name for name, text in marks.items() if "at chance" in text] == ["Random Bit Change"]
    with pytest.raises(SystemExit):
        cli.main(["measure", f"{folder}:Random Bit Change"])
    assert said in " ".join(capsys.readouterr().out.split())


def test_files_of_logits_say_which_members_are_at_chance():
    labels = np.arange(200) % 4
    right = 5.5 * np.eye(4, dtype=np.float32)[labels] - 1.3
    logits = np.stack(
        [right, right * np.linspace(0.5, 2, 200, dtype=np.float32)[:, None], -right, np.zeros_like(right)]
    )
    table = measured_logits({"logits": logits, "labels": labels}, Options())
    assert table["marks"].tolist() == ["2 of 4 diverged or learnt nothing: at chance"]


def test_accuracies_and_disagreement_of_a_table_are_percentages_as_published_ones_are(reported):
    (measured,) = measure([reported])
    (plan,) = stored_plans(Store(reported))
    (table, *_) = [table for table in beside(measured) if table.pairs]
    pair = table.pairs[0]
    (population,) = (one for one in plan.populations if one.name == pair.row.name)
    store = Store(reported)
    members = [m for m in population.members if m.id in store.done()]
    classes = np.stack([store.viewed_predictions(m.id)[1][0].argmax(axis=1) for m in members])
    right = (classes == store.labels(members[0].id)).mean(axis=1)
    differing = [(a != b).mean() for a, b in itertools.combinations(classes, 2)]
    cells = {cell.quantity.name: cell for cell in pair.cells}
    assert cells["accuracy_sd"].measured.value == pytest.approx(100 * right.std())
    assert cells["disagreement"].measured.value == pytest.approx(100 * np.mean(differing))
    assert (cells["disagreement"].published.value, cells["accuracy_mean"].published.value) == (10.7, 90.0)
    assert cells["accuracy_mean"].measured.value == pytest.approx(100 * right.mean())


def test_a_partly_finished_store_is_reported_as_far_as_it_is(reported, tmp_path):
    folder = Path(shutil.copytree(reported, tmp_path / "partial"))
    measured = Store(folder)
    first = next(iter(measured.done()))
    measured.predictions_path(first).unlink()
    report, _ = build([folder], figures=False)
    assert any(
        warning.startswith("Not finished, so this is what there is: ") for warning in report.sections[0].warnings
    )
    assert list(write(report, [], html=tmp_path / "report.html")) == [tmp_path / "report.html"]
