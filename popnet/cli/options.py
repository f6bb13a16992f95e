"""The arguments and options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
LabelsOption = Annotated[Path | None, typer.Option(help="Labels (.npy) for a file of predictions that holds none.")]
DataRootOption = Annotated[Path | None, typer.Option(help="Folder. Default: $POPNET_DATA or ~/.cache/popnet/data.")]
AllowImportOption = Annotated[
    bool,
    typer.Option("--allow-import", help="Run the code that the experiment names by `import:`: where you trust it."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON; messages go to standard error.")]
