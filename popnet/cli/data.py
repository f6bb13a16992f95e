"""`popnet data`: where data sets are, and how to get and write them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from popnet import machine, prose
from popnet.cli.options import DataRootOption, DebugOption, JsonOption, QuietOption
from popnet.cli.output import counting, say, standard_output
from popnet.errors import ConfigError
from popnet.untrusted import texts

app = typer.Typer(no_args_is_help=True, help="Data sets: where they are, and how to get them.")


@app.command("list")
def data_list(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Every data set that popnet knows, with where it was found or how to get it."""
    from popnet.data import available

    if as_json:
        machine.write(dict(available()))
        return
    console = standard_output()
    for name, state in available().items():
        prose.show(console, state.where, f"{'found  ' if state.ready else 'missing'} {name:15} ")


@app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A data set of `popnet data list`.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Its options, as in copy=true or train=FOLDER."),
    ] = None,
    root: DataRootOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read a data set, and say what it holds: images, classes, and the digest of its pixels that a store keeps.

    Example: popnet data check cifar10 copy=true
    """
    from popnet.data import Text, load

    loaded = load(name, root, **_options(options or []))
    if isinstance(loaded, Text):
        raise ConfigError(f"{name} is a text: popnet data check is for images")
    sizes = {"train": len(loaded.train_labels), "test": len(loaded.test_labels)}
    if as_json:
        facts = {"name": loaded.name, **sizes, "classes": loaded.classes, "class_names": loaded.class_names}
        machine.write({**facts, "mean": loaded.mean, "std": loaded.std, "digest": loaded.digest})
        return
    say(f"{loaded.name}: {sizes['train']:,} training and {sizes['test']:,} test images of {loaded.classes} classes")
    say(f"classes: {', '.join(loaded.class_names) if loaded.class_names else 'without names'}")
    say(f"normalised by mean {_rounded(loaded.mean)} and std {_rounded(loaded.std)}")
    say(f"digest: {loaded.digest}")
    for note in loaded.notes:
        say(note)


def _options(words: list[str]) -> dict[str, Any]:
    """`key=value` words, values as in YAML. Raises ConfigError."""
    options = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigError(f"option {word!r}: must read key=value, as in copy=true")
        if key in ("name", "root"):
            raise ConfigError(f"option {word!r}: the data set is the first word, and its root the option --root")
        try:
            options[key] = texts.parse_yaml(value)
        except ValueError as error:
            raise ConfigError(f"option {word!r}: {error}") from None
    return options


def _rounded(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


@app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A data set that torchvision downloads, as in cifar10.")],
    root: DataRootOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Download a data set through torchvision."""
    from popnet.data import available, fetch

    where = fetch(name, root)
    if as_json:
        machine.write({"name": name, "folder": where})
        return
    say(f"{name}: in {where}" if where else f"{name}: {available(root)[name].where}, nothing to fetch")


@app.command("write")
def data_write(
    dataset: Annotated[
        str,
        typer.Argument(help="A data set of `popnet data list`, or a folder with a folder of pictures for each class."),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT.beton")],
    split: Annotated[str, typer.Option(help="Of a named data set: train or test.")] = "train",
    encoding: Annotated[
        str, typer.Option(help="keep (JPEG files as they are, anything else raw), raw or jpeg (encoded anew).")
    ] = "keep",
    max_resolution: Annotated[
        int | None, typer.Option(min=1, help="Scale down pictures whose longer side has more pixels.")
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of pictures encoded as JPEG.")] = 90,
    classes_of: Annotated[
        Path | None,
        typer.Option(metavar="TRAIN_FOLDER", help="Of a test set's folder: the training set's, whose classes count."),
    ] = None,
    root: DataRootOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.beton.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write images to FFCV's format, for `loader: ffcv`; the checksum goes to OUT.beton.sha256.

    Example: popnet data write imagenet/train train.beton --max-resolution 500
    """
    from popnet.data.writing import Encoding, write

    chosen = Encoding.checked(encoding, max_resolution, quality)
    with counting(output.name, quiet) as told:
        written = write(
            *(dataset, output, split, chosen, root, force, classes_of),
            progress=told,
        )
    if as_json:
        machine.write({"file": output, **machine.plain(written)})
        return
    for note in written.notes:
        say(note)
    say(f"{output}: {written.examples:,} images, {written.size / 1e6:,.1f} MB, sha256 {written.checksum}")
