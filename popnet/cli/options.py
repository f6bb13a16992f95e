"""The arguments and options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from popnet.errors import ConfigError, nearest

if TYPE_CHECKING:
    from popnet.results.found import Options

ExperimentArgument = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="An experiment's YAML file, or the name of a shipped one.")
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides with dotted keys, as in recipe.epochs=10."),
]
StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="The folder of a run.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Folder for finished members. Default: runs/NAME of the experiment.")
]
DeviceOption = Annotated[str, typer.Option(help="Where to train: cpu, cuda, or auto: a GPU where there is one.")]
ScaleOption = Annotated[
    str, typer.Option(help="full, or smoke: every row in seconds on generated data, whose numbers mean nothing.")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(help="Integer labels [examples] of arrays that hold none: .npy, .npz, .pt, .safetensors, .txt, .csv."),
]
DataRootOption = Annotated[Path | None, typer.Option(help="Folder. Default: $POPNET_DATA or ~/.cache/popnet/data.")]
AllowImportOption = Annotated[
    bool,
    typer.Option("--allow-import", help="Run the code that the experiment names by `import:`: where you trust it."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON; messages go to standard error.")]

# How anyone's results are read: `compare`, `measure` and `power` share these.

MetricOption = Annotated[
    list[str] | None,
    typer.Option("--metric", "--column", "--value", help="A column, array or metric; repeat for more."),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE", help="Only such rows of a table; repeat for more."),
]
GroupOption = Annotated[
    str | None, typer.Option("--group", metavar="COLUMN", help="The column that VALUE in FILE:VALUE is of.")
]
SeedColumnOption = Annotated[
    str | None, typer.Option("--seed-column", metavar="COLUMN", help="What tells the runs of a table apart.")
]
IdColumnOption = Annotated[
    str | None, typer.Option("--id-column", metavar="COLUMN", help="What identifies the example that a row is of.")
]
RepeatColumnOption = Annotated[
    str | None,
    typer.Option("--repeat-column", metavar="COLUMN", help="Which repeat of one run a row is of: their mean is taken."),
]
TaskColumnOption = Annotated[
    str | None, typer.Option("--task-column", metavar="COLUMN", help="Which of several tasks a row is of.")
]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", metavar="COLUMN", help="Which examples belong together, as of one text.")
]
LastOption = Annotated[bool, typer.Option("--last", help="Take the last row of each run of a history.")]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="COLUMN", help="Rows may differ in it and be runs of one population; repeatable."),
]
ProbabilitiesOption = Annotated[
    bool | None, typer.Option("--probabilities/--logits", help="What arrays hold whose rows lie in 0..1 and sum to 1.")
]
ResultsScaleOption = Annotated[
    str, typer.Option("--scale", help="Of accuracies and error rates: auto, fraction, percent, or as-is.")
]


def reading(
    *,
    metric: list[str] | None,
    where: list[str] | None,
    ignore: list[str] | None,
    scale: str,
    **others: Any,
) -> Options:
    """The options above as the reader takes them. Raises ConfigError."""
    from popnet.results.found import SCALES, Options

    pairs = []
    for condition in where or ():
        column, equals, value = condition.partition("=")
        if not equals or not column.strip():
            raise ConfigError(f"--where {condition}: write COLUMN=VALUE")
        pairs.append((column.strip(), value.strip()))
    if scale not in SCALES:
        raise ConfigError(f"--scale {scale}: {nearest(scale, SCALES)}")
    return Options(
        metrics=tuple(metric or ()),
        where=tuple(pairs),
        ignore=tuple(ignore or ()),
        scale=scale,  # type: ignore[arg-type]  # one of SCALES
        **others,
    )
