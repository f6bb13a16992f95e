"""SQLite files: a database of somebody else's can be a program, and its pages a loop.

Views, triggers, virtual tables and generated columns compute; a journal can name another file, which SQLite then
deletes; pages that refer to each other make a small file stand for any number of rows. popnet's are plain tables.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

_LONGEST = 1 << 24
"""Characters in one value of a row; an error's text has a few thousand."""

_STEPS_A_BYTE = 4
"""Of SQLite's machine: one row takes hundreds of bytes and about fifty steps."""

_LEAST_STEPS = 1_000_000
_STEPS_A_CALL = 10_000
_COLUMN = re.compile("[a-z_]{1,40}")
_NAMES_ANOTHER_FILE = bytes.fromhex("d9d505f920a163d7")


def check_journal(ledger: Path) -> None:
    """That no journal beside a ledger names another file. Raises ValueError, and OSError."""
    journal = ledger.with_name(f"{ledger.name}-journal")
    if journal.is_file() and journal.stat().st_size >= 8:
        with journal.open("rb") as file:
            file.seek(-8, 2)
            if file.read(8) == _NAMES_ANOTHER_FILE:
                raise ValueError(f"{journal} names another file, which no journal of a ledger does")


def restrict(database: sqlite3.Connection) -> None:
    """Keep a connection from running what a file's schema says, and from values of any length."""
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    database.execute("PRAGMA trusted_schema=OFF")
    database.execute("PRAGMA cell_size_check=ON")


def limit_work(database: sqlite3.Connection, size: int = 0) -> None:
    """Let a connection do no more than a file of `size` bytes can ask for, or one member's entry where it is 0.

    A query that asks for more fails as interrupted. Call it again before the next that may take as long.
    """
    calls = (_LEAST_STEPS + _STEPS_A_BYTE * size) // _STEPS_A_CALL
    left = iter(range(calls))
    database.set_progress_handler(lambda: next(left, None) is None, _STEPS_A_CALL)


def check_schema(database: sqlite3.Connection, tables: Mapping[str, Collection[str]]) -> None:
    """That a database holds these tables with at least these columns, and nothing that computes.

    Raises ValueError, and sqlite3.Error.
    """
    found = database.execute("SELECT type, name, sql FROM sqlite_master LIMIT 100").fetchall()
    plain = {name for kind, name, sql in found if kind == "table" and str(sql).upper().startswith("CREATE TABLE ")}
    others = [name for kind, name, sql in found if name not in plain and not (kind == "index" and sql is None)]
    if plain != set(tables) or others:
        raise ValueError(f"holds {sorted(str(n)[:50] for n in [*plain, *others])}, and a ledger holds {sorted(tables)}")
    for table, columns in tables.items():
        described = database.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", [table]).fetchall()
        lacking = set(columns) - {name for name, _ in described}
        if lacking:
            raise ValueError(f"{table} has no column {', '.join(sorted(lacking))}, and a ledger holds it")
        for name, hidden in described:
            if hidden or _COLUMN.fullmatch(str(name)) is None:
                raise ValueError(
                    f"a column of {table} is {'computed' if hidden else 'named'} as no ledger's is: {name!r:.50}"
                )


def bounded_rows(cursor: sqlite3.Cursor, size: int) -> Iterator[Any]:
    """The rows of a query, which together cannot be longer than the `size` bytes of the file. Raises ValueError."""
    for row in cursor:
        size -= len(row) + sum(len(value) for value in tuple(row) if isinstance(value, (str, bytes)))
        if size < 0:
            raise ValueError("its rows are longer than the file that holds them")
        yield row
