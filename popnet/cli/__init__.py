"""The command line. Answers go to standard output, everything else to standard error; `EXIT_CODES` says how it ends.

A command is a function in one of the modules here, which import what they need when they are called: help is quick.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import typer

from popnet.cli import beginning, data, planning, questions, results, running, store
from popnet.cli.output import warn
from popnet.errors import PopnetError

EXIT_CODES = (
    "Exit codes: 0 done; 1 done, but members failed, a target was not met, or something is broken or damaged; "
    "2 wrong input, data or store, in one sentence; 70 a defect of popnet; 130 or 143 stopped by Ctrl-C or SIGTERM."
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train populations of small neural networks, bit for bit reproducibly, and see what varies between them.",
    epilog=f"First: popnet doctor. {EXIT_CODES}",
)
for command in (
    *(running.run, planning.plan, results.report, results.export),
    *(questions.measure, questions.compare, questions.power, questions.stability, questions.theory),
    *(results.predict, beginning.doctor, beginning.new, beginning.schema),
):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(store.app, name="store")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that popnet raises on purpose are printed as one sentence, see `EXIT_CODES`."""
    words = sys.argv[1:] if arguments is None else arguments
    program = typer.main.get_command(app)
    if "--allow-import" in words and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where one's own modules lie; last, so that they hide nothing
    try:
        program.main(words, prog_name="popnet")
    except PopnetError as error:
        from popnet.engine import Interrupted

        if "--debug" in words:
            traceback.print_exc()
        else:
            warn(f"popnet: {error}")
        sys.exit(error.code if isinstance(error, Interrupted) else 2)
    except Exception:
        traceback.print_exc()
        sys.stderr.write("popnet: this is a defect of popnet or of a part of yours: the traceback says which\n")
        sys.exit(70)
