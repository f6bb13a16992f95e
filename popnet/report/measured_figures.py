"""The figures of a report, from what stores hold, in the papers' layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from popnet.metrics import theory
from popnet.metrics.population import standard_deviation
from popnet.report import panels
from popnet.report.claims.onset import onsets
from popnet.report.claims.rows import is_plain
from popnet.report.content import Figure, Panel
from popnet.report.convergence import SUBSETS, convergence
from popnet.report.curves import Spread, spread
from popnet.report.measured import Measured, Row
from popnet.report.measured_tables import marked_names
from popnet.report.quantities import IMAGES, UNKNOWN, quantity
from popnet.report.settings import is_jordans
from popnet.report.theory_figures import drawn as drawn_theory
from popnet.report.theory_rows import populations_of

_AT_A_GLANCE = ("disagreement", "accuracy_sd", "ppl_sd")
_CONVERGING = (*IMAGES[:2], "ppl_sd", *IMAGES[2:], "ensemble_ppl_delta")
_LEAST_RUNS = 4
_TWINS = {
    "accuracy_difference": "Accuracy, difference (points)",
    "cross_entropy_difference": "Cross-entropy, difference",
    "weight_distance": "Distance of the weights",
}


def figures_of(measured: Measured) -> Iterator[Figure]:
    """Those that the experiment has the rows for."""
    yield from _rows(measured)
    yield from _similarity(measured)
    yield from _onset(measured)
    yield from _training(measured)
    yield from _distributions(measured)
    yield from _convergence(measured)
    yield from bit_changes([measured])
    yield from _twins(measured)
    yield from _theory(measured)


def bit_changes(experiments: Sequence[Measured]) -> Iterator[Figure]:
    """What one changed bit does over training, a line for each model (Summers & Dinneen 2021, Figure 3)."""
    found = [(row, s) for row in _bit_rows(experiments) if (s := spread(row, "cross_entropy")) is not None]
    if not found:
        return
    names = _model_names([row for row, _ in found])
    epochs = max(int(s.epochs[-1]) for _, s in found)
    drawn = [*_spread_panels(names, [s for _, s in found], f"{epochs} epochs")]
    if epochs > 10:
        drawn += _spread_panels(names, [s.until(10) for _, s in found], "first 10 epochs")
    yield Figure(
        "A change of one bit over training",
        "Models whose initial weights differ by one bit of one weight: the range of cross-entropy that holds the "
        "middle 95% of them, and its standard deviation, after each epoch (Summers & Dinneen 2021, Figure 3).",
        f"Lines over epochs for {', '.join(names)}.",
        tuple(drawn),
        tuple(enumerate(names)),
    )


def has_bit_changes(measured: Measured) -> bool:
    """Whether `bit_changes` has something to show of the experiment."""
    return any(spread(row, "cross_entropy") is not None for row in _bit_rows([measured]))


def _rows(measured: Measured) -> Iterator[Figure]:
    """Disagreement, and how much accuracies or perplexities spread, of every row."""
    names, notes = marked_names(measured)
    drawn = []
    for kind in (quantity(name) for name in _AT_A_GLANCE):
        values = {name: row.values.get(kind.name, UNKNOWN) for name, row in zip(names, measured.rows, strict=True)}
        known = {name: value for name, value in values.items() if value.known}
        if len(known) >= 2:
            drawn.append(Panel(kind.header, panels.dots(known, kind.header)))
    if not drawn:
        return
    yield Figure(
        "Rows beside each other",
        "How much two runs of a row differ, and how much single runs spread, with the table's errors"
        f"{''.join(f'; {note}' for note in notes)}.",
        f"A dot for each of {', '.join(names)}; the table holds the numbers.",
        tuple(drawn),
    )


def _similarity(measured: Measured) -> Iterator[Figure]:
    rows = {row.name: row.similarity for row in measured.rows if is_plain(row) and row.similarity is not None}
    if not rows:
        return
    first = next(iter(rows.values()))
    layers = list(first.layers)
    shown = {name: one.layers for name, one in rows.items() if list(one.layers) == layers}
    series = {name: [one[layer].value for layer in layers] for name, one in shown.items()}
    floors = [max((one[layer].floor for one in shown.values()), key=lambda floor: floor.value) for layer in layers]
    title = "Linear CKA, mean over pairs"
    yield Figure(
        "Similarity of representations",
        "How alike two runs represent the test images, layer by layer, with jackknife errors; dashed across each "
        "layer: the noise floor, which is what unrelated representations come to in the "
        f"{first.estimator} estimator with {first.examples:,} images (Summers & Dinneen 2021, Figure 1; they do not "
        "say which one they used).",
        f"Bars for the layers {', '.join(layers)} of {', '.join(series)}; noise floors "
        f"{', '.join(f'{floor.value:.3f}' for floor in floors)}.",
        (Panel(title, panels.bars(layers, series, title, floors)),),
        tuple(enumerate(series)),
    )


def _onset(measured: Measured) -> Iterator[Figure]:
    found = onsets(measured)
    if not found:
        return
    drawn = []
    for name in ("accuracy_sd", "cross_entropy_sd"):
        series = {}
        for style, one in enumerate(found):
            values = [row.values[name] for row in one.rows]
            series[one.name] = panels.Line(
                [row.variant.onset for row in one.rows],
                [value.value for value in values],
                errors=[value.error for value in values],
                style=style,
            )
        title = quantity(name).header
        drawn.append(Panel(title, panels.lines(series, title, "epoch of onset", from_zero=True)))
    yield Figure(
        "Onset of nondeterminism",
        "Runs that are alike up to an epoch, and vary from there on: how much the final models differ (Summers & "
        "Dinneen 2021, Figure 2; with cross-entropy as in the 2020 submission).",
        f"Standard deviations against the epoch of onset for {', '.join(one.name for one in found)}.",
        tuple(drawn),
        tuple(enumerate(one.name for one in found)),
    )


def _training(measured: Measured) -> Iterator[Figure]:
    rows = [row for row in _population_rows(measured) if spread(row, "accuracy") is not None]
    if not rows:
        return
    drawn = []
    for metric, title in (("accuracy", "Accuracy SD (%)"), ("cross_entropy", "Cross-Entropy SD")):
        spreads = {row.name: spread(row, metric) for row in rows}
        series = {
            name: panels.Line(one.epochs.tolist(), one.sd.tolist(), style=style)
            for style, (name, one) in enumerate(spreads.items())
            if one is not None
        }
        drawn.append(Panel(title, panels.lines(series, title, "epoch", logarithmic_y=True)))
    yield Figure(
        "Variability over training",
        "The standard deviation between runs after each epoch, on a logarithmic scale.",
        f"Standard deviations of accuracy and cross-entropy over epochs for {', '.join(row.name for row in rows)}.",
        tuple(drawn),
        tuple((style, row.name) for style, row in enumerate(rows)),
    )


def _twins(measured: Measured) -> Iterator[Figure]:
    table = measured.divergence
    if table is None or table.empty:
        return
    drawn = []
    variants = list(dict.fromkeys(table["variant"]))
    for column, title in _TWINS.items():
        series = {}
        for (variant, member), twin in table.groupby(["variant", "member"], sort=False):
            known = twin[twin[column].notna()]
            if len(known):
                x, y = known["epoch"].tolist(), known[column].abs().tolist()
                series[f"{variant} {member}"] = panels.Line(x, y, style=variants.index(variant))
        drawn.append(Panel(title, panels.lines(series, title, "epoch", from_zero=True)))
    yield Figure(
        "How twins part",
        "Each run against the first one of its row, from which it differs by its seeds alone (Summers & Dinneen 2021, "
        "Section 4.1): distances without sign.",
        f"Lines over epochs for {', '.join(variants)}.",
        tuple(drawn),
        tuple(enumerate(variants)),
    )


def _theory(measured: Measured) -> Iterator[Figure]:
    """Jordan's (2024) figures, for experiments that reproduce that paper's."""
    populations = populations_of(measured) if is_jordans(measured.experiment) else {}
    if not populations:
        return
    summaries = {name: theory.summarise(one.predictions, one.labels, one.classes) for name, one in populations.items()}
    for figure in drawn_theory(populations, summaries):
        if figure.kind != "accuracy":  # `_distributions` shows these
            alt = f"{figure.caption}: {', '.join(populations)}."
            text = f"{figure.caption} (Jordan 2024; `popnet theory` prints the numbers)."
            yield Figure(figure.caption, text, alt, (Panel(figure.caption, figure.svg),))


def _distributions(measured: Measured) -> Iterator[Figure]:
    rows = _population_rows(measured)
    if not rows:
        return
    metric = next(name for name in ("accuracy", "ppl") if rows[0].runs is not None and name in rows[0].runs.values)
    values = {row.name: row.runs.values[metric] for row in rows if row.runs is not None}
    title, unit = {"accuracy": ("Accuracy", "accuracy (%)"), "ppl": ("Perplexity", "perplexity")}[metric]
    drawn = [
        Panel(name, panels.histogram(sample, name, f"{unit}, SD {standard_deviation(sample):.2f}", style))
        for style, (name, sample) in enumerate(values.items())
    ]
    told = "; ".join(f"{name}: {sample.min():.2f} to {sample.max():.2f}" for name, sample in values.items())
    yield Figure(
        f"{title} over runs",
        f"How many runs reached which {unit} on the test set (after Jordan 2024, Figure 1).",
        f"Histograms of {unit}; lowest to highest: {told}.",
        tuple(drawn),
    )


def _convergence(measured: Measured) -> Iterator[Figure]:
    rows = _population_rows(measured)
    if not rows:
        return
    drawn = []
    for name in _CONVERGING:
        if not all(row.runs is not None and row.runs.knows(name) for row in rows):
            continue
        series = {}
        for style, row in enumerate(rows):
            assert row.runs is not None
            found = convergence(row.runs, name)
            series[row.name] = panels.Line(
                found.sizes.tolist(), found.mean.tolist(), found.low.tolist(), found.high.tolist(), style=style
            )
        title = quantity(name).header
        drawn.append(Panel(title, panels.lines(series, title, "members", logarithmic_x=True)))
    yield Figure(
        "Each metric against the size of the population",
        f"The mean over {SUBSETS} seeded subsets of each size, and the band that holds the middle 90% of them. The "
        "band closes towards the full population, of which there is one subset: that is no measure of its error.",
        f"Metrics over subset sizes from 2 to the whole population for {', '.join(row.name for row in rows)}.",
        tuple(drawn),
        tuple((style, row.name) for style, row in enumerate(rows)),
    )


def _population_rows(measured: Measured) -> list[Row]:
    """Rows of single models that differ, with enough runs for a curve."""
    rows = [row for row in measured.rows if is_plain(row)]
    return [row for row in rows if row.runs is not None and row.runs.count >= _LEAST_RUNS and row.runs.differ]


def _bit_rows(experiments: Sequence[Measured]) -> list[Row]:
    rows = [row for measured in experiments for row in measured.rows]
    return [row for row in rows if is_plain(row) and row.variant.sources == ("bit",) and row.runs is not None]


def _model_names(rows: Sequence[Row]) -> list[str]:
    """The models' names, with the data's where models alone do not tell the rows apart."""
    models = [row.recipe.model.label for row in rows]
    if len(set(models)) == len(models):
        return models
    return [f"{row.recipe.model.label}, {row.recipe.dataset.label}, {row.recipe.epochs} epochs" for row in rows]


def _spread_panels(names: Sequence[str], spreads: Sequence[Spread], which: str) -> Iterator[Panel]:
    for title, field in (("Cross-entropy, range of 95%", "range"), ("Cross-Entropy SD", "sd")):
        series = {
            name: panels.Line(one.epochs.tolist(), getattr(one, field).tolist(), style=style)
            for style, (name, one) in enumerate(zip(names, spreads, strict=True))
        }
        heading = f"{title}, {which}"
        yield Panel(heading, panels.lines(series, heading, "epoch", logarithmic_y=True))
