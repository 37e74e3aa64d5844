"""The command line: reads options, names errors and exit codes; `curate.commands` does the work."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console
from rich.markup import escape

from curate.cli.app import EXIT_CODES, app
from filters.core.errors import StopRun, WorkerLost
from transforms.storage import redact

# Each adds its commands, in the order of `--help`.
# isort: off
import curate.cli.running
import curate.cli.asking
import curate.cli.keeping
import curate.cli.describing  # noqa: F401
# isort: on

__all__ = ["EXIT_CODES", "app", "main", "redact_message"]


def main() -> None:
    """Runs the command line; turns every error that has a name into one message and exit code."""
    console = Console(stderr=True, highlight=False)
    try:
        app(standalone_mode=False)
    except StopRun as error:
        console.print(f"[bold red]error:[/] {escape(redact_message(str(error)))}", soft_wrap=True)
        if isinstance(error, WorkerLost):
            # Threads of the lost engine may still be at work here, and Python would wait for them.
            sys.stdout.flush()
            os._exit(error.exit_code)
        sys.exit(error.exit_code)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        console.print("interrupted; what is done stays done, the same command goes on from there")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()  # a usage error of the command line itself
        sys.exit(2)


def redact_message(message: str) -> str:
    """The message without credentials that a URL may hold."""
    return " ".join(redact(word) if "://" in word and "@" in word else word for word in message.split(" "))
