"""What runs left behind: `popnet report`, `export` and `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from popnet import machine
from popnet.cli.options import AllowImportOption, DebugOption, DeviceOption, JsonOption, QuietOption, StoreArgument
from popnet.cli.output import check_writable, counting, say, standard_output, warn
from popnet.errors import ConfigError

if TYPE_CHECKING:
    from popnet.report.claims import Evidence
    from popnet.report.content import Report


def report(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Folders of runs.")],
    html: Annotated[Path | None, typer.Option(help="Also write one self-contained HTML file, with figures.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write a Markdown file, and its figures beside it.")
    ] = None,
    latex: Annotated[Path | None, typer.Option(help="Also write a LaTeX document of the tables and claims.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write every cell as a line, unrounded.")] = None,
    title: Annotated[str, typer.Option(help="Of the report. Default: what the experiments are called.")] = "",
    date: Annotated[str, typer.Option(help="To print under the title; none is printed otherwise.")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Rewrite the HTML file while runs go on there; report when they have ended.")
    ] = False,
    interval: Annotated[float, typer.Option(help="With --watch: seconds between two looks.")] = 10.0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Set what stores hold beside the published tables, and check the papers' claims.

    Every difference is given in units of the combined error, every claim a verdict with the numbers behind it.

    Example: popnet report runs/resnet6 runs/linear --html report.html --csv report.csv
    """
    from popnet.report import document, files, terminal
    from popnet.report.long_form import long_form

    for path in (html, markdown, latex, csv):
        check_writable(path)
    if watch:
        built, evidence = _watch(stores, html, title, date, interval)
    else:
        built, evidence = document.build(stores, title, date, figures=html is not None or markdown is not None)
    if as_json:
        machine.write({"title": built.title, "cells": long_form(evidence), "claims": [c for _, c in built.claims]})
    else:
        terminal.print_report(built, evidence, standard_output())
    for path in files.write(built, evidence, html=html, markdown=markdown, latex=latex, csv=csv):
        warn(f"written: {path}")


def _watch(
    stores: list[Path], page: Path | None, title: str, date: str, interval: float
) -> tuple[Report, list[Evidence]]:
    """Until the runs have ended. Ctrl-C ends the watching alone, with the exit code of an interruption."""
    from popnet.report.watch import watch

    if page is None:
        raise ConfigError("--watch rewrites a page while runs go on: name it with --html FILE")
    warn(f"watching, until the runs have ended or Ctrl-C: open {page.resolve().as_uri()}")
    try:
        return watch(stores, page, title, date, interval, warn)
    except KeyboardInterrupt:
        warn(f"not watched any more: {page} stays as it is, and the runs go on")
        raise typer.Exit(130) from None


def export(
    store: StoreArgument,
    hf: Annotated[Path | None, typer.Option("--hf", metavar="OUT", help="A folder for predictions.")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", metavar="OUT", help="A folder for every member's learning curves.")
    ] = None,
    row: Annotated[list[str] | None, typer.Option(help="A row to write; repeat for more. Default: all.")] = None,
    dtype: Annotated[str, typer.Option(help="fp16 or fp32.")] = "fp16",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier export.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write predictions to publish: a folder for each row, with its logits, labels and seeds, under one card.

    Predictions are in the layout of the published logits of many runs: logits.npy [runs, examples, classes] and
    labels.npy. --tensorboard writes learning curves. For one file of everything that the ledger knows of the members
    there is `popnet store export`.

    Example: popnet export runs/quickstart --hf quickstart-logits
    """
    from popnet.publish import publish, write_curves
    from popnet.publish.folder import Published
    from popnet.store import open_store

    if hf is None and tensorboard is None:
        raise ConfigError("export: nothing to write: give --hf OUT or --tensorboard OUT")
    opened = open_store(store)
    rows: list[Published] = []
    curves: list[Path] = []
    with counting(str(store), quiet) as told:
        if hf is not None:
            rows = publish(opened, hf, row, dtype, force, told)
        if tensorboard is not None:
            curves = write_curves(opened, tensorboard, told)
    if as_json:
        machine.write({"rows": rows, "curves": curves})
        return
    for entry in rows:
        say(f"{entry.folder}: {entry.runs} runs x {entry.examples} examples x {entry.classes} classes")
    if curves:
        say(f"{tensorboard}: curves of {len(curves)} members; look at them by `tensorboard --logdir {tensorboard}`")


def predict(
    source: Annotated[str, typer.Argument(metavar="STORE", help="A store or one of its rows; its runs keep weights.")],
    pictures: Annotated[Path, typer.Argument(help="A folder with a folder of pictures for each class, or a .beton.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.npz")],
    mapping: Annotated[
        Path | None, typer.Option(help="YAML or JSON: folder: class, where folders are not called as classes are.")
    ] = None,
    device: DeviceOption = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.npz.")] = False,
    quiet: QuietOption = False,
    allow_import: AllowImportOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Test trained runs on another test set, as ImageNet-V2, -R, -Sketch or ObjectNet; for `popnet theory` and compare.

    Example: popnet predict runs/imagenet_resnet18 imagenet-sketch sketch.npz
    """
    import numpy as np

    from popnet.engine.predicting import predict

    check_writable(output)
    notes: list[str] = []
    with counting(output.name, quiet) as told:
        accuracies = predict(
            *(source, pictures, output, mapping, device, force),
            progress=told,
            allow_import=allow_import,
            tell=notes.append,
        )
    if as_json:
        members = np.load(output)["seeds"].tolist()
        machine.write({"file": output, "accuracy": dict(zip(members, accuracies.tolist()))})
        return
    for note in notes:
        say(note)
    say(f"{output}: {len(accuracies)} runs, accuracy {accuracies.mean():.2f} %")
