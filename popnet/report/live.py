"""What the page of a run that goes on shows above its report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from popnet.report.content import Line, Table
from popnet.report.look import Counts, Failure, Look, State
from popnet.store.progress import FINISHED, Progress, Running

_RUNNING_SHOWN = 16


@dataclass(frozen=True)
class Block:
    """One store.

    Attributes:
        title: how far it is, in a line.
        text: what goes on, in a sentence.
        bar: shares of a bar, each a kind (`done`, `running`, `failed`, `to-come`), how many, and a name.
        facts: pairs of a name and a value: the rate, the time left.
        table: each row's members.
        running: what is in training, a line each.
        failures: members that could not be trained, with the rows that miss them and the error.
    """

    title: str
    text: str
    bar: tuple[tuple[str, int, str], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    table: Table | None = None
    running: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Live:
    """Above a report that is written again and again.

    Attributes:
        blocks: one for each store.
        moment: when it was written, seconds since 1970.
        reload: after how many seconds the page shall load itself again; None: it stays as it is.
    """

    blocks: tuple[Block, ...]
    moment: float
    reload: float | None

    @property
    def clock(self) -> str:
        return time.strftime("%H:%M:%S", time.localtime(self.moment))


def live(looks: Sequence[Look], reload: float | None) -> Live:
    """What some stores say now. `reload`: see `Live`."""
    return Live(tuple(map(_block, looks)), time.time(), reload)


def headline(one: Look) -> str:
    """How far a store is, in a line."""
    if one.state is State.WAITED_FOR:
        return f"{one.store}: no run yet"
    if one.state is State.STARTING:
        return f"{one.store}: a run is starting"
    if one.progress is None or one.all is None:
        return f"{one.store}: {'a run goes on' if one.state is State.RUNNING else 'no run goes on'}"
    failed = f", {one.all.failed:,} failed" if one.all.failed else ""
    return f"{one.progress.experiment}: {one.all.done:,} of {one.all.planned:,} members done{failed}"


def _block(one: Look) -> Block:
    if one.progress is None or one.all is None:
        return Block(headline(one), _sentence(one))
    running = one.progress.running if one.state is State.RUNNING else ()
    lines = [_running(run) for run in running[:_RUNNING_SHOWN]]
    if len(running) > _RUNNING_SHOWN:
        lines.append(f"and {len(running) - _RUNNING_SHOWN:,} more")
    return Block(
        headline(one),
        _sentence(one),
        tuple(_bar(one.all)),
        tuple(_facts(one.progress, one.state)),
        _table(one.rows),
        tuple(lines),
        one.failures,
    )


def _sentence(one: Look) -> str:
    if one.state is State.WAITED_FOR:
        return f"Waiting for a run in {one.store}: start it with popnet run EXPERIMENT --store {one.store}."
    if one.state is State.STARTING:
        return "Data sets are being loaded and workers started."
    if one.state is State.RUNNING:
        return f"The run goes on in {one.store}."
    if one.progress is None:
        return f"No run goes on in {one.store}, and what is there is below."
    if one.progress.ended == FINISHED:
        return "The run is over."
    if one.progress.ended:
        return f"The run was cut short: {one.progress.ended}."
    return "The run was killed. Finished members are kept, and the same command goes on from here."


def _bar(counts: Counts) -> list[tuple[str, int, str]]:
    shares = [
        ("done", counts.done, "done"),
        ("running", counts.running, "in training"),
        ("failed", counts.failed, "failed"),
        ("to-come", counts.to_come, "to come"),
    ]
    return [share for share in shares if share[1] > 0]


def _facts(told: Progress, state: State) -> list[tuple[str, str]]:
    speed = [rate(told.epochs_per_second, "epochs")]
    if told.done and told.seconds > 0:
        speed.append(rate(told.done / told.seconds, "members"))
    facts = [("Speed", ", ".join(speed))]
    if state is State.RUNNING:
        left = told.seconds_left
        facts.append(("Time left", "not known before the first epoch" if left is None else f"about {duration(left)}"))
    facts.append(("Running for" if state is State.RUNNING else "Took", duration(told.seconds)))
    return facts


def _table(rows: Sequence[Counts]) -> Table:
    lines = [
        Line(row.name, tuple(f"{n:,}" for n in (row.done, row.running, row.failed, row.to_come, row.planned)))
        for row in rows
    ]
    note = "A member that several rows share is counted in each."
    return Table(
        "Members of each row", "Variant", ("Done", "In training", "Failed", "To come", "Planned"), tuple(lines), (note,)
    )


def _running(run: Running) -> str:
    what = f"a beginning shared with {run.member}" if run.beginning else run.member
    return f"{what}: epoch {min(run.epoch + 1, run.epochs):,} of {run.epochs:,}"


def rate(per_second: float | None, what: str) -> str:
    """In the unit in which it is a number that one can read."""
    if per_second is None:
        return "not known yet"
    for factor, unit in ((1.0, "second"), (60.0, "minute"), (3600.0, "hour")):
        if per_second * factor >= 1.0 or unit == "hour":
            break
    return f"{per_second * factor:,.3g} {what} {'an' if unit == 'hour' else 'a'} {unit}"


def duration(seconds: float) -> str:
    """In its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or unit == "s") or "0 s"
