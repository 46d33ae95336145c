"""`lamella sim`: the simulator as a program."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import click

from lamella.simulator import ReceivedRequest, Simulator
from lamella.types import LamellaError


@click.command()
@click.option('--host', default='127.0.0.1', show_default=True, help='Address to listen at.')
@click.option('--port', default=8089, show_default=True, type=click.IntRange(0, 65535), help='0 takes a free one.')
@click.option('--script', type=click.Path(path_type=Path), help='TOML file with [[faults]] and [[answers]].')
@click.option('--seed', default=0, show_default=True, help='The same seed and requests give the same answers.')
@click.option(
    '--api-key', 'api_keys', multiple=True, help='A key that is taken; repeat for more. Default: any or none.'
)
@click.option('--log', is_flag=True, help='One line for each request on stderr.')
def sim(host: str, port: int, script: Path | None, seed: int, api_keys: tuple[str, ...], log: bool) -> None:
    """Run a local provider that speaks the vendors' protocols and fails on schedule.

    The first line printed is its base URL. SIGINT and SIGTERM stop it.
    """
    try:
        simulator = Simulator(
            host=host,
            port=port,
            script=script,
            seed=seed,
            api_keys=api_keys or None,
            on_done=print_line if log else None,
        )
        asyncio.run(serve(simulator))
    except LamellaError as error:
        raise click.ClickException(error.message) from error
    except KeyboardInterrupt:
        return


async def serve(simulator: Simulator) -> None:
    """Until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with simulator:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, stop.set)
        click.echo(simulator.base_url)
        await stop.wait()


def print_line(record: ReceivedRequest) -> None:
    click.echo(line_of(record), err=True)


def line_of(record: ReceivedRequest) -> str:
    """`POST /v1/chat/completions gpt-x #3 200 stream, 12 parts, cut`, without query and credentials."""
    asked = f'{record.method} {record.path.partition("?")[0]}'
    model = f' {record.model} #{record.number}' if record.number is not None else ''
    status = f' {record.status or "no answer"}'
    facts = [f'stream, {record.parts_sent} parts'] if record.stream else []
    facts += [*record.faults, *(['client left'] if record.disconnected else [])]
    return f'{asked}{model}{status}{" " if facts else ""}{", ".join(facts)}'
