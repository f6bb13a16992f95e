"""What `popnet measure` prints: a table of populations, or of the metrics of other results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from popnet import machine
from popnet.cli.output import say, standard_output, warn
from popnet.errors import ConfigError
from popnet.results import sources as forms
from popnet.results.found import Options
from popnet.results.reading import check_options


def measure_sources(
    sources: Sequence[str],
    options: Options,
    confidence: float,
    ensemble_cross_entropy: bool,
    csv: Path | None,
    markdown: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Measure each source, print the answer in the form that is asked for, and write it where that is asked for."""
    check_options(sources, options)
    logits = [source for source in sources if _may_hold_logits(source, options)]
    if not logits:
        _describe(sources, options, confidence, csv, markdown, html, as_json)
        return
    import pandas as pd

    from popnet.results.measuring import logits_rows

    if len(logits) < len(sources):
        raise ConfigError(f"{logits[0]}: logits and stores are measured by themselves, without tables of numbers")
    if html is not None or markdown:
        raise ConfigError("--markdown and --html: of tables and predictions; of stores there is `popnet report --html`")
    table = pd.concat([logits_rows(s, options, ensemble_cross_entropy=ensemble_cross_entropy) for s in sources])
    if as_json:
        machine.write(table)
    else:
        from popnet.report.tables import render

        render(table, ", ".join(sources), console=standard_output(), sd="n - 1")
    if csv is not None:
        csv.write_text(table.to_csv())


def _may_hold_logits(source: str, options: Options) -> bool:
    path, value = forms.split(source)
    form = forms.form_of(path)
    if form != "arrays":
        return form == "store"
    from popnet.results.arrays.runs import holds_logits

    return holds_logits(path, options, value)


def _describe(
    sources: Sequence[str],
    options: Options,
    confidence: float,
    csv: Path | None,
    markdown: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    from popnet.questions import describe_source
    from popnet.report import answers

    found = [part for source in sources for part in describe_source(source, options, confidence)]
    answer = answers.of_descriptions([(answers.Shown.of(runs), runs.task, described) for runs, described in found])
    rows = [
        {"source": runs.name, "task": runs.task or None, **machine.plain(description)}
        for runs, described in found
        for description in described
    ]
    if as_json:
        machine.write(rows)
    elif markdown:
        say(answers.markdown(answer))
    else:
        answers.console(answer, standard_output())
    if csv is not None:
        _write_csv(csv, rows)
    if html is not None:
        html.write_text(answers.html([answer]), encoding="utf-8")
        warn(f"written: {html}")


def _write_csv(path: Path, rows: Sequence[dict[str, object]]) -> None:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
