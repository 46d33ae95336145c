"""`lamella trace`: the runs that a trace file keeps, as a list, as trees, and as they happen."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from lamella.cli._echo import echo
from lamella.cli._screen import clean
from lamella.cli._target import Unusable
from lamella.engine.traces import RunRow, SpanRow, TraceReader
from lamella.middleware._lines import one_line
from lamella.types import LamellaError

POLL_S = 0.5
_HIDDEN = ('gen_ai.operation.name', 'gen_ai.request.model', 'gen_ai.tool.name', 'gen_ai.tool.type', 'lamella.turn')
_COLOURS = {'failed': 'red', 'running': 'cyan', 'final': 'green', 'interrupted': 'yellow'}

_file = click.option(
    '--file', 'path', default='traces.db', show_default=True, type=click.Path(path_type=Path), help='The trace file.'
)
_json = click.option('--json', 'as_json', is_flag=True, help='One JSON object a line.')


@click.group()
def trace() -> None:
    """Look at the runs that a trace file keeps (`trace = 'traces.db'` in a lamella.toml, or sinks=[TraceStore(…)])."""


@trace.command('list')
@_file
@click.option('--limit', default=20, show_default=True, type=click.IntRange(1), help='How many, the latest first.')
@click.option('--status', help='Only those: running, failed, final, interrupted …')
@_json
def list_(path: Path, limit: int, status: str | None, as_json: bool) -> None:
    """The latest runs, the latest first."""
    with _reader(path) as reader:
        for run in reader.runs(limit=limit, status=status):
            echo(json.dumps(msgspec.to_builtins(run)) if as_json else line_of(run))


@trace.command()
@click.argument('run', default='last')
@_file
@click.option('--content', is_flag=True, help='Show what was recorded of texts, whole.')
@_json
def show(run: str, path: Path, content: bool, as_json: bool) -> None:
    """One run as a tree. RUN is its id, a piece of it, or `last`."""
    with _reader(path) as reader:
        try:
            row = reader.run(run)
            tree = reader.tree(row)
        except LamellaError as error:
            raise Unusable(error.message) from error
    if as_json:
        echo(json.dumps({'run': msgspec.to_builtins(row), 'tree': msgspec.to_builtins(tree)}))
        return
    echo(line_of(row))
    for line in _tree(tree, tree.began, content, _marks()):
        echo(line)


@trace.command()
@_file
@click.option('--count', type=click.IntRange(1), help='Stop after so many runs.')
@_json
def follow(path: Path, count: int | None, as_json: bool) -> None:
    """Each run as it ends, until Ctrl-C."""
    with _reader(path) as reader:
        try:
            for told, run in enumerate(_followed(reader), 1):
                echo(json.dumps(msgspec.to_builtins(run)) if as_json else line_of(run))
                if told == count:
                    return
        except KeyboardInterrupt:
            return


def _followed(reader: TraceReader) -> Iterator[RunRow]:
    """Runs as they end: those that are under way now, and all that begin later."""
    latest = reader.runs(limit=1)
    after = latest[0].number if latest else 0
    waiting = [run.number for run in reader.runs(limit=100, status='running')]
    while True:
        new = reader.runs(after=after, limit=1000)
        after = new[-1].number if new else after
        waiting += [run.number for run in new]
        for number in list(waiting):
            found = [run for run in reader.runs(after=number - 1, limit=1) if run.number == number]
            if not found or found[0].ended is not None:  # removed meanwhile, or over
                waiting.remove(number)
                yield from found
        if not new:
            time.sleep(POLL_S)


def line_of(run: RunRow) -> str:
    """`12:03:04  run_…  final   1.20 s  2 turns  30+12 tokens  $0.000123  openai/gpt-5`."""
    began = datetime.fromtimestamp(run.began, UTC).astimezone().strftime('%Y-%m-%d %H:%M:%S')
    took = '…' if run.ended is None else seconds(run.ended - run.began)
    facts = [f'{run.turns} turn{"" if run.turns == 1 else "s"}'] if run.turns is not None else []
    if run.input_tokens is not None or run.output_tokens is not None:
        facts.append(f'{_known(run.input_tokens)}+{_known(run.output_tokens)} tokens')
    if run.cost_usd is not None:
        facts.append(f'${run.cost_usd:.6f}')
    status = click.style(f'{one_line(run.status):<11}', fg=_COLOURS.get(run.status))
    error = f'  {one_line(run.error)}' if run.error else ''
    return f'{began}  {one_line(run.id)}  {status} {took:>8}  {"  ".join([one_line(run.name), *facts])}{error}'


def _tree(
    span: SpanRow, since: float, content: bool, marks: tuple[str, str, str, str], indent: str = ''
) -> Iterator[str]:
    tee, end, bar, gap = marks
    inside: list[Any] = [*span.notes, *span.inside]
    inside.sort(key=lambda each: each.began if isinstance(each, SpanRow) else each.at)
    for i, each in enumerate(inside):
        last = i == len(inside) - 1
        head, rest = indent + (end if last else tee), indent + (gap if last else bar)
        if isinstance(each, SpanRow):
            yield head + _span_line(each, since)
            for name, value in each.facts.items() if content else ():
                if name.endswith(('messages', 'instructions', 'arguments', 'result')):
                    yield f'{rest}  {name.rpartition(".")[2]}: {clean(str(value))}'
            yield from _tree(each, since, content, marks, rest)
        else:
            facts = ' '.join(f'{name.removeprefix("lamella.")}={value}' for name, value in each.facts.items())
            yield click.style(head + one_line(f'{each.name} {facts}').rstrip(), dim=True)


def _span_line(span: SpanRow, since: float) -> str:
    took = '…' if span.ended is None else seconds(span.ended - span.began)
    facts = [f'{_short(name)}={_value(value)}' for name, value in span.facts.items() if _is_told(name, value)]
    colour = 'red' if span.error else None
    said = one_line(f'{span.kind} {span.name}  +{seconds(span.began - since)} {took}  {" ".join(facts)}').rstrip()
    return click.style(said, fg=colour) + (click.style(f'  {one_line(span.error)}', fg='red') if span.error else '')


def _is_told(name: str, value: Any) -> bool:
    return name not in _HIDDEN and not (isinstance(value, str) and len(value) > 60)


def _short(name: str) -> str:
    for beginning in ('gen_ai.usage.', 'gen_ai.request.', 'gen_ai.response.', 'gen_ai.', 'lamella.'):
        name = name.removeprefix(beginning)
    return name


def _value(value: Any) -> str:
    return (
        ','.join(map(str, value))
        if isinstance(value, list)
        else f'{value:g}'
        if isinstance(value, float)
        else str(value)
    )


def seconds(value: float) -> str:
    return f'{value * 1000:.0f} ms' if value < 1 else f'{value:.2f} s'


def _known(count: int | None) -> str:
    return '?' if count is None else str(count)


def _marks() -> tuple[str, str, str, str]:
    """Lines of a tree, in plain letters where the terminal has no others."""
    try:
        '├└│'.encode(sys.stdout.encoding or 'ascii')
    except (UnicodeEncodeError, LookupError):
        return '|- ', '`- ', '|  ', '   '
    return '├─ ', '└─ ', '│  ', '   '


def _reader(path: Path) -> TraceReader:
    try:
        return TraceReader(path)
    except LamellaError as error:
        raise Unusable(error.message) from error
