"""What a store holds of its members as CSV, for spreadsheets and data frames; every run leaves it up to date."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from popnet.store.files import written_aside
from popnet.store.rows import HISTORY
from popnet.store.store import Store


def write_logs(store: Store) -> tuple[Path, Path]:
    """Write `tables/members.csv`, a line for each member, and `tables/history.csv`, one for each of its epochs.

    The columns are those of `store.members()`, and of `store.history(id)` after the member's `id`; numbers are
    unrounded, and empty where nothing was measured. Epochs go through memory one at a time.

    Raises:
        StoreError: the ledger cannot be read, or a file cannot be written.
    """
    members = store.save_table("members", store.members())
    path = members.with_name("history.csv")
    with written_aside(path) as file, store.ledger.opened() as database:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("id", *HISTORY))
        lines.writerows(
            store.ledger.checked(database.execute(f"SELECT id, {', '.join(HISTORY)} FROM history ORDER BY id, epoch"))
        )
        text.detach()
    return members, path
