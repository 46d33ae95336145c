"""`lamella doctor`: what an app is made of, and what is wrong with it."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator

import click
import msgspec

from lamella.cli._echo import echo
from lamella.cli._target import app_of
from lamella.core.order import OrderWarning
from lamella.engine.app import Lamella
from lamella.engine.config.checkup import Checkup, Probe, examine, reach


@click.command()
@click.argument('target', required=False)
@click.option('--online', is_flag=True, help='Connect to the stores, and ask each model one tiny question.')
@click.option('--timeout-s', default=10.0, show_default=True, help='For each connection, with --online.')
@click.option('--strict', is_flag=True, help='A doubtful order is a failure too.')
@click.option('--json', 'as_json', is_flag=True, help='One JSON object instead of text.')
def doctor(target: str | None, online: bool, timeout_s: float, strict: bool, as_json: bool) -> None:
    """Check a lamella.toml, a spine.toml or an app (module:app): names, settings, the order of the layers.

    Without TARGET it is the file in this folder. Exit codes: 0 all is well, 1 something is wrong with the app, 2 it cannot be
    read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', OrderWarning)  # they are told below, with everything else
        app, notes = app_of(target)
        found = examine(app, notes)
    probes = asyncio.run(_reached(app, timeout_s)) if online and not found.errors else []
    if as_json:
        echo(json.dumps({**msgspec.to_builtins(found), 'probes': msgspec.to_builtins(probes)}, ensure_ascii=False))
    else:
        for line in _lines(found, probes):
            echo(line)
    if found.errors or (strict and found.warnings) or any(probe.error for probe in probes):
        raise SystemExit(1)


async def _reached(app: Lamella, timeout_s: float) -> list[Probe]:
    async with app:
        return await reach(app, timeout_s)


def _lines(found: Checkup, probes: list[Probe]) -> Iterator[str]:
    yield from _section('mapped from spine.toml', found.notes)
    yield from _section('plugins', found.plugins)
    yield from _section('models', found.models)
    yield from _section('stores', found.stores)
    for onion in found.onions:
        yield from _section(onion.title, onion.drawn.splitlines())
    yield from _section('doubtful', found.warnings)
    yield from _section('wrong', found.errors)
    yield from _section('online', [_probe(probe) for probe in probes])
    counted = [f'{len(found.errors)} wrong', f'{len(found.warnings)} doubtful']
    if probes:
        counted.append(f'{sum(probe.error is not None for probe in probes)} of {len(probes)} out of reach')
    yield ', '.join(counted)


def _section(title: str, lines: tuple[str, ...] | list[str]) -> Iterator[str]:
    if lines:
        yield title
        yield from [f'  {line}' for line in lines]
        yield ''


def _probe(probe: Probe) -> str:
    return f'{probe.what}: {probe.error or "ok"} ({probe.took_s * 1000:.0f} ms)'
