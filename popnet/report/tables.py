"""Tables as the papers print them, with the published numbers beside popnet's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from popnet import prose
from popnet.errors import ConfigError, nearest
from popnet.report.quantities import BELOW, Value, correlation, number, with_error

_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Cell = Callable[[Mapping[str, Any]], str]


def published(reference: str) -> pd.DataFrame:
    """The rows of a published table, indexed by `variant`: a column per number, its error in `<name>_error`.

    Of a range ("7.0-7.5"), the middle, and half the width as its error; see `printed_ranges`.

    reference: e.g. "summers_dinneen_2021.table1", or nested, "summers_dinneen_2021.table6.resnet6".
    Raises ConfigError, proposing the nearest table, for any other.
    """
    tables = dict(_tables(_published_yaml()))
    if reference not in tables:
        raise ConfigError(f"no published table is called {reference!r}; {nearest(reference, tables)}")
    rows = {}
    for variant, numbers in tables[reference].items():
        row: dict[str, Any] = {}
        for name, value in numbers.items():
            if isinstance(value, list):
                row[name], row[f"{name}_error"] = float(value[0]), float(value[1])
            elif isinstance(value, str):
                low, high = map(float, value.split("-"))
                row[name], row[f"{name}_error"] = (low + high) / 2, (high - low) / 2
            else:
                row[name] = math.nan if value is None else float(value)
        rows[variant] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis("variant")


def printed_ranges(reference: str) -> dict[tuple[str, str], str]:
    """The ranges of a published table as they are printed, by row and name, as in "7.0-7.5"."""
    rows = dict(_tables(_published_yaml()))[reference].items()
    return {(row, name): text for row, numbers in rows for name, text in numbers.items() if isinstance(text, str)}


def published_references() -> list[str]:
    """Every reference that `published` knows."""
    return [name for name, _ in _tables(_published_yaml())]


def means_of(reference: str, row: str = "", whole: bool = True) -> dict[str, float]:
    """The published means of a table's models by quantity, as in {"accuracy_mean": 90.0}; of one of its rows, if named.

    They stand in the paper's section `means`, by table (and, where they differ, by row), or in the row itself.

    whole: whether those of the whole table count, which are means of single models.
    """
    paper, _, table = reference.partition(".")
    given = _published_yaml().get(paper, {}).get("means", {}).get(table, {})
    means = {name: value for name, value in given.items() if whole and not isinstance(value, dict)}
    if row:
        own = dict(_tables(_published_yaml())).get(reference, {}).get(row, {})
        means |= {name: value[0] if isinstance(value, list) else value for name, value in own.items() if _is_mean(name)}
        means |= given.get(row, {})
    return means


def _is_mean(name: str) -> bool:
    return name.endswith("_mean")


def tables_with_means() -> list[str]:
    """The references of the tables whose models' means are published."""
    papers = ((paper, below.get("means", {})) for paper, below in _published_yaml().items())
    return [f"{paper}.{table}" for paper, means in papers for table in means]


def render(
    table: pd.DataFrame,
    title: str,
    published: pd.DataFrame | None = None,
    console: Console | None = None,
    sd: str = "n",
) -> None:
    """Prints the variability table: one row per variant, under it the published row of the same name, if any.

    table: indexed by `variant`, columns the fields of `popnet.metrics.Variability` or `LanguageVariability`, and
    optionally `population`, `failed` (members that could not be trained), `diverged` (members no better than guessing,
    which are counted) and `marks` (remarks on a row, a string or a list of them).
    sd: what is in the denominator of its SDs, to be said: `n`, as in the papers' tables and `Variability`, or `n - 1`.
    """
    console = console or Console()
    console.print(variability_table(table, f"{title} (SD: {sd})", published, console.width))
    for note in _notes(table, published):
        prose.show(console, note, style="dim")


def variability_table(table: pd.DataFrame, title: str, published: pd.DataFrame | None = None, width: int = 80) -> Table:
    """What `render` prints, as a rich table for `width` columns."""
    wide = width >= 110
    padding = (0, 1) if wide else (0, 0)
    result = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=padding,
    )
    result.add_column("Variant", overflow="fold", min_width=14)
    columns = _language_columns(wide) if "ppl_sd" in table.columns else _columns(wide)
    footnotes = _footnotes(table)
    for header, _ in columns:
        result.add_column(header, justify="right", no_wrap=True)
    for variant, row in table.iterrows():
        values: dict[str, Any] = {str(name): value for name, value in row.items()}
        result.add_row(_name(str(variant), values, footnotes), *(cell(values) for _, cell in columns))
        if published is not None and variant in published.index:
            printed: dict[str, Any] = {str(name): value for name, value in published.loc[str(variant)].items()}
            cells = [Text(cell(printed), style="dim") for _, cell in columns]
            result.add_row(Text("  published", style="dim"), *cells)
    return result


def _columns(wide: bool) -> list[tuple[str, Cell]]:
    plus_minus = " ± " if wide else "±"
    return [
        ("Members" if wide else "Mem-\nbers", _members),
        ("Accuracy\n(mean)", lambda row: _number(row, "accuracy_mean", 2)),
        (
            "Accuracy\nSD (%)",
            lambda row: _bound(row, "accuracy_sd") or with_error(_value(row, "accuracy_sd"), 2, plus_minus),
        ),
        ("Cross-Entropy\nSD", lambda row: with_error(_value(row, "cross_entropy_sd"), 4, plus_minus)),
        (
            "Pairwise\nDisagree (%)" if wide else "Pairwise\nDisagr.%",
            lambda row: _number(row, "disagreement", 2),
        ),
        ("Pairwise\nCorr." if wide else "Pair.\nCorr.", lambda row: correlation(_value(row, "spearman").value)),
        ("Ensemble\nΔ (%)" if wide else "Ens.\nΔ (%)", lambda row: _number(row, "ensemble_delta", 2)),
    ]


def _language_columns(wide: bool) -> list[tuple[str, Cell]]:
    plus_minus = " ± " if wide else "±"
    return [
        ("Members" if wide else "Mem-\nbers", _members),
        ("PPL\n(mean)", lambda row: _number(row, "ppl_mean", 2)),
        ("PPL\nSD", lambda row: with_error(_value(row, "ppl_sd"), 2, plus_minus)),
        (
            "Pairwise\nDisagree (%)" if wide else "Pairwise\nDisagr.%",
            lambda row: _number(row, "disagreement", 2),
        ),
        ("Ensemble\nPPL Δ" if wide else "Ens.\nPPL Δ", lambda row: _number(row, "ensemble_ppl_delta", 2)),
        ("Corr. of\nTargets", lambda row: correlation(_value(row, "target_spearman").value)),
        ("Corr. of\nLogits", lambda row: correlation(_value(row, "logit_spearman").value)),
    ]


def _footnotes(table: pd.DataFrame) -> dict[str, str]:
    """A raised number for each distinct mark, in the order in which the rows bring them."""
    marks = dict.fromkeys(mark for _, row in table.iterrows() for mark in _marks({"marks": row.get("marks")}))
    return {mark: str(number).translate(_RAISED) for number, mark in enumerate(marks, start=1)}


def _name(variant: str, row: Mapping[str, Any], footnotes: Mapping[str, str]) -> Text:
    name = Text(variant)
    numbers = [footnotes[mark] for mark in _marks(row)]
    if numbers:
        name.append("\N{NO-BREAK SPACE}" + " ".join(numbers), style="dim")
    failed = row.get("failed")
    if failed is not None and not pd.isna(failed) and int(failed) > 0:
        name.append(f"\n{int(failed)} failed", style="bold red")
    return name


def _marks(row: Mapping[str, Any]) -> list[str]:
    marks = row.get("marks")
    if isinstance(marks, str):
        return marks.split("; ") if marks else []
    return [str(mark) for mark in marks] if isinstance(marks, (list, tuple)) else []


def _members(row: Mapping[str, Any]) -> str:
    members = row.get("members", row.get("population"))
    return "" if _missing(members) else str(int(members))


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _value(row: Mapping[str, Any], name: str) -> Value:
    value, error = row.get(name), row.get(f"{name}_error")
    return Value(math.nan if value is None else float(value), math.nan if error is None else float(error))


def _bound(row: Mapping[str, Any], name: str) -> str:
    """What a paper prints in place of a number, that it is below another; empty where it does not."""
    bound = _value(row, f"{name}{BELOW}").value
    return "" if math.isnan(bound) else f"< {bound:g}"


def _number(row: Mapping[str, Any], name: str, decimals: int) -> str:
    return number(_value(row, name).value, decimals)


def _notes(table: pd.DataFrame, published: pd.DataFrame | None) -> Iterator[str]:
    for mark, raised in _footnotes(table).items():
        yield f"{raised} {mark}"
    if "failed" in table.columns:
        failed = int(pd.to_numeric(table["failed"]).fillna(0).sum())
        if failed:
            yield f"{failed} member{'s' if failed > 1 else ''} failed and {'are' if failed > 1 else 'is'} not counted."
    if "diverged" in table.columns and (rows := int((pd.to_numeric(table["diverged"]).fillna(0) > 0).sum())):
        rest = "rows hold" if rows > 1 else "row holds"
        yield (
            f"{rows} {rest} members that are no better than guessing: their numbers are counted in means and SDs, so "
            "these say little; a lower rate or more epochs may help."
        )
    if published is not None and not set(map(str, table.index)) & set(map(str, published.index)):
        yield "No row of the published table bears one of these variants' names."


@cache
def _published_yaml() -> dict[str, Any]:
    text = resources.files("popnet.report").joinpath("published.yaml").read_text(encoding="utf-8")
    tree = dict(yaml.safe_load(text))
    tree.pop("cost")  # what the published results cost: no table of variants
    return tree


def _tables(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Every (reference, rows) below `tree`: a table maps variants to rows, a row holds no mapping."""
    for name, below in tree.items():
        if not isinstance(below, dict) or name == "means":
            continue
        reference = f"{prefix}{name}"
        rows = {key: value for key, value in below.items() if isinstance(value, dict)}
        if rows and not any(isinstance(number, dict) for row in rows.values() for number in row.values()):
            yield reference, rows
        else:
            yield from _tables(below, f"{reference}.")
