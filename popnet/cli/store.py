"""`popnet store`: check, repair, merge, export and tidy up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from popnet import machine
from popnet.cli.options import DebugOption, JsonOption, StoreArgument
from popnet.cli.output import say, teller, warn

app = typer.Typer(no_args_is_help=True, help="Stores: check, repair, merge, export, tidy up.")


@app.command("verify")
def store_verify(store: StoreArgument, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check every file and entry against its digest, and list what nothing refers to. Only reads.

    Exit code 1 where something is damaged or missing; `popnet store repair` sets that aside.
    """
    from popnet.store import open_store
    from popnet.store.verify import HARMLESS, verify

    opened = open_store(store)
    findings = verify(opened)
    damaged = sum(finding.kind not in HARMLESS for finding in findings)
    rest = len(findings) - damaged
    if as_json:
        machine.write(findings)
    else:
        for finding in findings:
            say(f"{finding.kind}: {finding.text}")
    teller(as_json)(f"{store}: {damaged or 'nothing'} damaged or missing, {rest} left over (popnet store prune)")
    if damaged:
        raise typer.Exit(1)


@app.command("repair")
def store_repair(store: StoreArgument, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Set everything damaged aside, in the store's folder `damaged`: the next run trains again what lost something.

    Of a damaged ledger the entries that match their digests are kept.
    """
    from popnet.store.repair import repair

    tell = teller(as_json)
    repaired: list[str] = []

    def note(text: str) -> None:
        repaired.append(text)
        tell(text)

    if not repair(store, note):
        tell(f"{store}: nothing is damaged")
    if as_json:
        machine.write({"store": store, "repaired": repaired})


@app.command("merge")
def store_merge(
    into: Annotated[Path, typer.Argument(metavar="INTO", help="The store that grows; made where there is none.")],
    sources: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Stores to take members from.")],
    wait: Annotated[bool, typer.Option("--wait", help="Where a run has INTO, wait until it ends.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy into one store the members that others have and it lacks: a population that was trained in parts.

    Exit code 1 where a member was left out, since it is damaged.

    Example: popnet store merge runs/all runs/first_half runs/second_half
    """
    from popnet.store import Store, open_store
    from popnet.store.merge import Merged, merge

    opened = [open_store(source) for source in sources]
    target = Store(into, create=True)
    target.lock(wait, warn)
    merged: list[Merged] = []
    try:
        for source in opened:
            merged.append(merge(target, source, warn))
            teller(as_json)(f"{source.path}: {merged[-1].taken} members taken, {merged[-1].known} known")
    finally:
        target.unlock()
    if as_json:
        machine.write([{"store": source.path, **machine.plain(one)} for source, one in zip(opened, merged)])
    if any(one.left for one in merged):
        raise typer.Exit(1)


@app.command("export")
def store_export(
    store: StoreArgument,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A file, .npz or .parquet.")],
    row: Annotated[str | None, typer.Option(help="The members of one row of its tables; default: all.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the finished members to one file: what the ledger says of them, their histories, predictions and labels.

    To publish predictions, a folder for each row, there is `popnet export`.

    Example: popnet store export runs/mine mine.npz --row Baseline
    """
    from popnet.results.stores.rows import named_population
    from popnet.store import open_store
    from popnet.store.export import export

    opened = open_store(store)
    members = None if row is None else [m.id for m in named_population(opened, row, str(store)).members]
    count = export(opened, output, members)
    if as_json:
        machine.write({"file": output, "members": count})
    else:
        say(f"{output}: {count} members")


@app.command("prune")
def store_prune(
    store: StoreArgument,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Also how far unfinished members are: they begin anew.")
    ] = False,
    unplanned: Annotated[
        bool, typer.Option("--unplanned", help="Also members that no experiment asks for, as it was last run here.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go, and remove nothing.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove what no member needs: half-written files, files of no finished member, what was set aside as damaged."""
    from popnet.results.stores.plans import planned_members
    from popnet.store import open_store
    from popnet.store.prune import prune

    opened = open_store(store)
    opened.lock()
    try:
        pruned = prune(opened, planned_members(opened) if unplanned else None, checkpoints, dry_run)
    finally:
        opened.unlock()
    if as_json:
        machine.write({**machine.plain(pruned), "dry_run": dry_run})
    else:
        for path in pruned.files:
            say(f"{path}")
    would = "would be " if dry_run else ""
    teller(as_json)(
        f"{store}: {len(pruned.files)} files, {pruned.size / 1e6:,.1f} MB, and {len(pruned.members)} members "
        f"{would}removed"
    )
