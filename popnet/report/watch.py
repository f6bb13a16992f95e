"""A report that is written again and again while runs go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from popnet.errors import ConfigError
from popnet.report import document
from popnet.report.claims import Evidence
from popnet.report.content import Report
from popnet.report.files import put
from popnet.report.html import render_html
from popnet.report.live import headline, live
from popnet.report.look import Look, State, look

_RESTRAINT = 4.0
"""Between two looks passes this many times as long as the first one took: most of the machine is the run's."""


def watch(
    stores: Sequence[Path],
    page: Path,
    title: str = "",
    generated: str = "",
    interval: float = 10.0,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Report, list[Evidence]]:
    """Keep an HTML page on some stores up to date until no run goes on in any of them.

    Stores that are not there yet are waited for. The page loads itself again while it is watched over; it is whole at
    any moment. Ctrl-C ends the watching, not the run, and leaves a page that stays as it is.

    Args:
        stores, title, generated: as of `document.build`.
        page: the file.
        interval: seconds between two looks; more where a look takes long.
        tell: is told when a store's state changes.

    Returns:
        the report in the end, and the numbers it was made from.

    Raises:
        ConfigError: the interval is not above 0.
        StoreError: something in a store cannot be read, or the page cannot be written.
        DataError: the runs have ended, and no member is finished.
    """
    if not interval > 0:
        raise ConfigError(f"interval is {interval:g}: it must be above 0 seconds")
    watching = _Watching(tuple(dict.fromkeys(stores)), page, title, generated, tell)
    try:
        while True:
            began = time.monotonic()
            if not watching.look(interval):
                return watching.outcome()
            time.sleep(max(interval, _RESTRAINT * (time.monotonic() - began)))
    except KeyboardInterrupt:
        watching.write(reload=None)
        raise


class _Watching:
    """The page, and what was last seen. `built`: the report on the stores that hold a finished member, if any does."""

    def __init__(
        self, stores: Sequence[Path], page: Path, title: str, generated: str, tell: Callable[[str], None]
    ) -> None:
        self._stores, self._page, self._tell = stores, page, tell
        self._title, self._generated = title, generated
        self._looks: list[Look] = []
        self.built: tuple[Report, list[Evidence]] | None = None

    def look(self, interval: float) -> bool:
        """Look at every store, bring the page up to date, and say whether any run goes on or is waited for."""
        before, self._looks = self._looks, [look(path) for path in self._stores]
        for index, one in enumerate(self._looks):
            if not before or before[index].state is not one.state:
                self._tell(headline(one))
        if [one.finished for one in self._looks] != [one.finished for one in before]:
            readable = [one.store for one in self._looks if one.finished[0]]
            self.built = document.build(readable, self._title, self._generated) if readable else None
        going_on = any(one.state is not State.ENDED for one in self._looks)
        self.write(interval if going_on else None)
        return going_on

    def outcome(self) -> tuple[Report, list[Evidence]]:
        """The report on all stores. Raises DataError where one holds no finished member."""
        if self.built is not None and all(one.finished[0] for one in self._looks):
            return self.built
        return document.build(self._stores, self._title, self._generated)

    def write(self, reload: float | None) -> None:
        """Write the page from what was last seen."""
        names = " and ".join(path.name for path in self._stores)
        report = self.built[0] if self.built is not None else Report(self._title or names, (), self._generated)
        put(self._page, render_html(report, live(self._looks, reload)))
