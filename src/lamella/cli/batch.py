"""`lamella batch`: a file of prompts answered line by line, with a result for every line, going on where it was stopped."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from lamella.cli._batch_file import Results, lines_of
from lamella.cli._batch_run import Batch, Tally
from lamella.cli._echo import echo
from lamella.cli._progress import Progress
from lamella.cli._target import Unusable, app_of
from lamella.cli._values import value_of
from lamella.types import ConfigError, LamellaError


@click.command()
@click.argument('prompts')
@click.option('-o', '--output', required=True, help='Where results go, one JSON object a line; - is standard output.')
@click.option('--app', 'target', help='A file or module:app; the lamella.toml of this folder when left out.')
@click.option('--model', help="The model of lines that name none; the app's own when left out.")
@click.option('--chain', help='A chain of the file, for every line.')
@click.option('--system', help='The system message of lines that have none.')
@click.option('--concurrency', default=8, show_default=True, type=click.IntRange(1, 10_000), help='Lines at once.')
@click.option('--retry-failed', is_flag=True, help='Ask lines again that failed in an earlier run of this batch.')
@click.option('--context', help='A JSON object of values for layers (tenant, user …).')
@click.option('--quiet', is_flag=True, help='No progress and no summary.')
def batch(
    prompts: str,
    output: str,
    target: str | None,
    model: str | None,
    chain: str | None,
    system: str | None,
    concurrency: int,
    retry_failed: bool,
    context: str | None,
    quiet: bool,
) -> None:
    """Answer PROMPTS, a file of JSON lines (- is standard input).

    A line is a text, or an object with `prompt` or `messages`, and perhaps `id`, `model`, `system`, `config`, `output_schema`.
    Each has exactly one line in the output, in the order in which they are done: `line` (from 1), `id`, `ok`, and `text`,
    `output`, `model`, `finish_reason`, `usage`, or `error`. Stopped at any moment, also by kill -9, the same command goes on:
    what is in the output is not asked again.

    Exit codes: 0 all lines were answered, 1 some failed (they are in the output too), 2 wrong usage or files, 130 stopped.
    """
    values = value_of(context, '--context')
    if values is not None and not isinstance(values, dict):
        raise Unusable(f'--context is {context!r}: give a JSON object')
    app, _ = app_of(target)
    try:
        use = None if chain is None else app.chain(chain)
        app.resolve_model(model) if model is not None else app.default()
    except LamellaError as error:
        raise Unusable(error.message) from error
    defaults: dict[str, Any] = {'model': model, 'use': use, 'system': system, 'context': values}
    try:
        with (
            Results.opened(output, retry_failed=retry_failed) as results,
            Progress(quiet=quiet, total=_count(prompts)) as shown,
        ):
            work = Batch(
                app, results, {key: value for key, value in defaults.items() if value is not None}, concurrency
            )
            tally = app.run_main(_run(work, prompts, shown))
    except KeyboardInterrupt:
        echo('stopped; the same command goes on from here', err=True)
        raise SystemExit(130) from None
    except ConfigError as error:
        raise Unusable(error.message) from error
    if tally.failed:
        raise SystemExit(1)


async def _run(work: Batch, prompts: str, shown: Progress) -> Tally:
    lines = lines_of(sys.stdin.buffer if prompts == '-' else Path(prompts))
    task = asyncio.ensure_future(work.run(lines, shown.update))
    try:
        return await task
    finally:
        shown.done(work.tally)


def _count(prompts: str) -> int | None:
    """How many lines there are, where that can be known before."""
    if prompts == '-':
        return None
    try:
        with open(prompts, 'rb') as file:
            return sum(block.count(b'\n') for block in iter(lambda: file.read(1 << 20), b''))
    except OSError as error:
        raise Unusable(f'{prompts} cannot be read: {error.strerror or error}') from error
