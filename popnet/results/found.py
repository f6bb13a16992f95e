"""What every reader gives: the runs of one source, reduced to what comparisons need; and what readers are told."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from popnet.errors import ConfigError, nearest
from popnet.metrics.samples import Sample

if TYPE_CHECKING:
    from popnet.config import Recipe, Variant
    from popnet.metrics.theory.packed import PackedErrors

Scale = Literal["auto", "fraction", "percent", "as-is"]
SCALES = get_args(Scale)


@dataclass(frozen=True)
class Runs:
    """The runs of one source on one task.

    Attributes:
        name: for tables.
        samples: by metric, in the unit in which it was read; `accuracy` (percent) and `cross_entropy` (nats) where
            predictions are known.
        seeds: what identifies each run's seeds, or None where unknown.
        ids: what identifies each example, in ascending order, which is the order of everything by example; None where
            examples are known by their position alone, or not at all.
        matched_by: the name of the ids' column.
        clusters: the group of each example, an integer [examples]; None where none was asked for.
        predictions: the classes predicted, uint8, uint16 or uint32 [members, examples], or None.
        errors: or None.
        labels: int64 [examples], or None.
        classes: how many, or None.
        members: ids of the stored members behind each run, or None.
        digests: of all that is known of each run; None where only `samples` are known.
        exact: whether equal digests prove copies of one run, as those of logits do, and those of right answers do not.
        content: what identifies each example's content, by id: other content under an equal id is another test; None
            where unknown.
        units: of metrics whose unit is another than their name says; empty for a share as it was given.
        percent: metrics that were given in percent, as a sign or the metric's name says.
        rows: what identifies the place of each run in its file, by which sources that share runs are known; or None.
        task: its name, where a source holds several; else empty.
        marks: what a reader must know of how the source was read, each a clause.
        variant, recipe: of a store's row, else None.
    """

    name: str
    samples: Mapping[str, Sample]
    seeds: tuple[Hashable, ...] | None = None
    ids: tuple[Hashable, ...] | None = None
    matched_by: str | None = None
    clusters: NDArray[np.int64] | None = None
    predictions: NDArray[Any] | None = None
    errors: PackedErrors | None = None
    labels: NDArray[np.int64] | None = None
    classes: int | None = None
    members: tuple[tuple[str, ...], ...] | None = None
    digests: tuple[bytes, ...] | None = None
    exact: bool = False
    content: Mapping[Hashable, str] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    percent: frozenset[str] = frozenset()
    rows: frozenset[Hashable] | None = None
    task: str = ""
    marks: tuple[str, ...] = ()
    variant: Variant | None = None
    recipe: Recipe | None = None

    @property
    def count(self) -> int:
        """How many runs."""
        return len(next(iter(self.samples.values())).values)

    @property
    def examples(self) -> int | None:
        """How many examples, where they are known one by one."""
        sizes = [len(s.example_means) for s in self.samples.values() if s.example_means is not None]
        return sizes[0] if sizes else None

    def described(self) -> str:
        """Its name, what was found and how it was read, in a line."""
        marks = f" ({'; '.join(self.marks)})" if self.marks else ""
        return f"{self.name}, {self.found()}{marks}"

    def found(self) -> str:
        """What was found, as in `5 runs x 1,319 examples, matched by doc_id`."""
        runs = f"{self.count:,} run{'' if self.count == 1 else 's'}"
        text = runs if self.examples is None else f"{runs} x {self.examples:,} examples"
        return f"{text}, matched by `{self.matched_by}`" if self.matched_by else text


@dataclass(frozen=True)
class Options:
    """What a reader is told; each field is an option of the command line, which the errors name.

    Attributes:
        labels: the labels of arrays that hold none: a file, or integers [examples].
        metrics: columns, arrays or metrics that are wanted; none: the only one, or all where their names are known.
        where: (column, value) pairs: only the rows of a table that have all of them.
        group: the column of a table whose values name groups, as VALUE in `FILE:VALUE` does.
        seed_column, id_column, repeat_column, task_column, cluster: columns of a table: what tells runs apart, what
            identifies an example, which repeat of a run an answer is of, which task, and which examples go together.
        last: take the last row of each run of a history.
        ignore: columns in which the rows of one population may differ.
        probabilities: True: arrays hold probabilities; False: logits, though they look like probabilities; None: ask.
        scale: of accuracies and error rates.
        keep: ids of the examples to keep; None keeps all.
    """

    labels: str | Path | NDArray[Any] | None = None
    metrics: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    group: str | None = None
    seed_column: str | None = None
    id_column: str | None = None
    repeat_column: str | None = None
    task_column: str | None = None
    cluster: str | None = None
    last: bool = False
    ignore: tuple[str, ...] = ()
    probabilities: bool | None = None
    scale: Scale = "auto"
    keep: frozenset[Hashable] | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError, naming the field, for a value of another type."""
        if self.scale not in SCALES:
            raise ConfigError(f"scale {self.scale!r}: {nearest(str(self.scale), SCALES)}")
        for name in ("group", "seed_column", "id_column", "repeat_column", "task_column", "cluster"):
            if not isinstance(getattr(self, name), str | None):
                raise ConfigError(f"{name}={getattr(self, name)!r}: the name of a column is needed")
        for name in ("metrics", "ignore"):
            if not all(isinstance(value, str) for value in getattr(self, name)):
                raise ConfigError(f"{name}={getattr(self, name)!r}: names are needed")
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in self.where):
            raise ConfigError(
                f"where={self.where!r}: a mapping from columns to values is needed, as {{'split': 'test'}}"
            )
