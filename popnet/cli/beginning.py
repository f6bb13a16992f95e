"""First contact: `popnet doctor`, `new` and `schema`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from popnet import machine, prose
from popnet.cli.options import DebugOption, JsonOption
from popnet.cli.output import check_writable, say, standard_output
from popnet.errors import ConfigError


def doctor(
    train: Annotated[bool, typer.Option(help="Also train a tiny member and compare its bits.")] = True,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at this machine: versions, GPU, native code, extras, data sets, and whether it gives the bits on record.

    Exit code 1 where something popnet needs is broken; what is optional and missing is not an error.
    """
    from rich.text import Text

    from popnet import next_steps
    from popnet.doctor import examine

    console = standard_output()
    styles = {"ok": "green", "missing": "yellow", "unknown": "yellow", "broken": "bold red"}
    checks = []
    for check in examine(train):
        checks.append(check)
        if not as_json:
            head = Text(f"{check.verdict:8}", styles[check.verdict]).append(f"{check.name:20}", style="default")
            prose.show(console, check.found, head)
            if check.remedy:
                prose.show(console, check.remedy, f"{'':28}-> ")
    if as_json:
        machine.write(checks)
    if any(check.verdict == "broken" for check in checks):
        raise typer.Exit(1)
    if not as_json:
        next_steps.show(console, ["popnet", "run", "quickstart"], ["popnet", "new", "mine", "--own"])


def new(
    name: Annotated[str, typer.Argument(help="Of the experiment; the file is NAME.yaml.")],
    dataset: Annotated[
        str | None, typer.Option(help="A data set of `popnet data list`, or package.module:attr. Default: digits.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model's name, or package.module:attribute. Default: small_cnn.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each training. Default: 20.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples a step. Default: 64.")] = None,
    lr: Annotated[float | None, typer.Option(help="The schedule's largest learning rate. Default: 0.1.")] = None,
    population: Annotated[int | None, typer.Option(min=2, help="Trainings a row. Default: 10.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="A source to vary; repeat for more. Default: all.")] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Also write NAME_parts.py: your own model, data, loss, optimiser.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where to write the file.")] = Path(),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a commented experiment file. At a terminal, asks for what no option answers; elsewhere takes defaults.

    Example: popnet new mine --dataset fashion_mnist --model resnet6 --epochs 10
    """
    from popnet import next_steps, scaffold

    if own and (dataset or model or lr):
        raise ConfigError("--own brings a data set, a model and an optimiser of its own: leave out those options")
    given: dict[str, Any] = {"dataset": dataset, "model": model, "epochs": epochs, "batch_size": batch_size, "lr": lr}
    given |= {"population": population}
    if own:
        given = {"epochs": epochs, "batch_size": batch_size, "population": population}
    if sys.stdin.isatty():
        defaults = scaffold.Answers(name)
        given = {
            key: typer.prompt(key, default=getattr(defaults, key), err=as_json) if value is None else value
            for key, value in given.items()
        }
    answers = {k: v for k, v in given.items() if v is not None} | ({"sources": source} if source else {})
    written = scaffold.write(scaffold.Answers(name, own, **answers), folder)
    imports = any(":" in str(part) for part in (dataset, model)) or own
    allowed = ["--allow-import"] if imports else []
    following = [["popnet", command, str(written[0]), *allowed] for command in ("plan", "run")]
    if as_json:
        machine.write({"files": written, "next": following})
        return
    say(f"written: {', '.join(map(str, written))}")
    next_steps.show(standard_output(), *following)


def schema(
    output: Annotated[Path | None, typer.Option(help="A file; default: print it.")] = None,
    debug: DebugOption = False,
) -> None:
    """The JSON Schema of experiment files, for editors: completion, and unknown keys underlined.

    Example: popnet schema --output popnet.schema.json

    \b
    Then, as an experiment file's first line:
    # yaml-language-server: $schema=popnet.schema.json
    """
    import json

    from popnet.schema import experiment_schema

    check_writable(output)
    content = json.dumps(experiment_schema(), indent=2) + "\n"
    if output is None:
        sys.stdout.write(content)
    else:
        output.write_text(content, encoding="utf-8")
