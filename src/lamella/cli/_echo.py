"""Printing, in the encoding that the terminal says it has."""

from __future__ import annotations

import sys
from typing import IO, Any

import click


def echo(text: str = '', *, err: bool = False, nl: bool = True) -> None:
    """`click.echo` to the program's own streams: click writes UTF-8 to an ASCII terminal, which shows it as rubbish.

    Colours are left out where nobody sees them.
    """
    click.echo(text, file=sys.stderr if err else sys.stdout, nl=nl)


class Problem(click.ClickException):
    """A message on standard error, and an exit code."""

    def show(self, file: IO[Any] | None = None) -> None:
        if file is not None:
            super().show(file)
        else:
            echo(f'Error: {self.format_message()}', err=True)
