"""The entry point of the command line."""

from __future__ import annotations

import importlib
import sys

__all__ = ['main']


def main() -> None:
    """Runs the command line. Without click it names the command that installs it."""
    try:
        commands = importlib.import_module('lamella.cli.commands')
    except ModuleNotFoundError as error:
        if error.name != 'click':
            raise
        sys.exit("the command line needs click: pip install 'lamella[cli]'")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, 'reconfigure'
        ):  # a terminal that cannot show a letter gets its number instead of a traceback
            stream.reconfigure(errors='backslashreplace')
    commands.lamella()
