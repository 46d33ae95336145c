"""`lamella replay`: what a recording holds, and whether an app still does the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lamella.cli._echo import echo
from lamella.cli._screen import clean
from lamella.cli._target import Unusable, app_of
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.tools import Tool
from lamella.engine.app import Lamella
from lamella.middleware import Recording, Replayer
from lamella.middleware._recording import RecordedCall, RecordedRun
from lamella.middleware._recording_codec import Unreadable, first_difference, plain, shown
from lamella.middleware._recording_errors import plain_error
from lamella.types import JSON, GenerateResponse, LamellaError, ModelResponse, ToolResponse

_path = click.argument('path', metavar='FILE', type=click.Path(path_type=Path))
_json = click.option('--json', 'as_json', is_flag=True, help='One JSON object a line.')
_VOLATILE = ('attempts',)  # of an error: how long each took


@click.group()
def replay() -> None:
    """Look at recordings of runs (`use=[Recorder('runs.jsonl')]`), and run them again without network and tools."""


@replay.command()
@_path
@click.option('--run', 'wanted', help='Only this run: its id, or a piece of it.')
@click.option('--content', is_flag=True, help='Show texts, inputs and outputs whole.')
@_json
def show(path: Path, wanted: str | None, content: bool, as_json: bool) -> None:
    """The recorded runs, each with its calls."""
    recording = _read(path)
    for run in _chosen(recording, wanted):
        if as_json:
            echo(json.dumps(_facts(run)))
            continue
        echo(_headline(run))
        for line in _lines(run, content):
            echo(f'  {line}')
    for place in recording.unfinished:
        echo(f'{place}: the file breaks off in the middle of a line', err=True)


@replay.command('run')
@_path
@click.argument('target', required=False)
@click.option('--run', 'wanted', help='Only this run: its id, or a piece of it.')
@_json
def run_(path: Path, target: str | None, wanted: str | None, as_json: bool) -> None:
    """Run each recorded request again, answered from the recording. TARGET is a lamella.toml, or module:app.

    Exit code 0 when every run does what was recorded, 1 when one departs from it, 2 when that cannot be found out.
    """
    recording = _read(path)
    app, _ = app_of(target)
    runs = [run for run in _chosen(recording, wanted) if run.parent is None]
    departed = 0
    outcomes = app.run_main(_all(app, recording, runs))
    for run, said in zip(runs, outcomes, strict=True):
        departed += said is not None
        if as_json:
            echo(json.dumps({'run': run.id, 'equal': said is None, 'departure': said}))
        else:
            verdict = click.style('equal', fg='green') if said is None else click.style('departs', fg='red')
            echo(f'{run.id}  {verdict}' + (f'  {said}' if said else ''))
    if departed:
        sys.exit(1)


async def _all(app: Lamella, recording: Recording, runs: list[RecordedRun]) -> list[str | None]:
    return [await _again(app, recording, run) for run in runs]


async def _again(app: Lamella, recording: Recording, run: RecordedRun) -> str | None:
    """Where this run departs from its recording; `None` when it is equal."""
    try:
        options = _options(app, run)
    except Unreadable as error:
        raise Unusable(f'{recording.path}, line {run.line}: {error}') from error
    use = [Replayer(recording, run=run.id)]
    try:
        if run.is_stream:
            stream = app.generate_stream(**options, use=use)
            response: GenerateResponse = await stream.response
        else:
            response = await app.generate(**options, use=use)
    except LamellaError as error:
        if 'replayer' in error.details:
            return error.message
        return _differs(run, {'error': plain_error(error)})
    except Exception as error:
        return _differs(run, {'error': plain_error(error)})
    return _differs(run, {'response': plain(response)})


def _differs(run: RecordedRun, now: JSON) -> str | None:
    """Whether it ended as it did. A recording that breaks off has no end to compare with."""
    if run.end is None or 'left' in run.end:
        return None
    was: JSON = {name: run.end[name] for name in ('response', 'error') if name in run.end}
    found = first_difference(_steady(was), _steady(now))
    return None if found is None else f'it ended otherwise: {found[0]} was {found[1]} and is {found[2]}'


def _steady(end: JSON) -> JSON:
    error = end.get('error')
    if not isinstance(error, dict):
        return end
    return {'error': {name: value for name, value in error.items() if name not in _VOLATILE}}


def _options(app: Lamella, run: RecordedRun) -> dict[str, Any]:
    """What `generate` is given to ask for the same. Tools are not run, so that their names and schemas will do."""
    request = run.model_request()
    of_layers = _layer_tools(app)
    options: dict[str, Any] = {
        'model': _model(app, run),
        'messages': list(request.messages),
        'config': request.config,
        'tools': [_stand_in(tool) for tool in request.tools if tool.name not in of_layers],
        'tool_choice': request.tool_choice,
        'context': run.context,
        'max_turns': run.max_turns,
    }
    if request.output is not None:
        options['output_format'] = request.output.format
        options['output_schema'] = request.output.schema
    return {name: value for name, value in options.items() if value not in (None, [], {})}


def _model(app: Lamella, run: RecordedRun) -> Any:
    default = app.default_model
    if getattr(default, 'name', None) == run.model:
        return default
    try:
        return app.resolve_model(run.model)
    except LamellaError as error:
        raise Unusable(f'{run.id}: {error.message}') from error


def _layer_tools(app: Lamella) -> set[str]:
    ctx = GenerateMiddlewareContext(app)
    layers = [layer for layer in app.stack.layers if 'tools' in layer._hooks]
    return {app.registry.tool(tool).name for layer in layers for tool in layer.tools(ctx)}


def _stand_in(definition: Any) -> Tool:
    def run(_: Any) -> Any:
        raise LamellaError('FAILED_PRECONDITION', f'tool {definition.name!r} was not answered from the recording')

    return Tool(definition.name, definition.description, definition.input_schema, run, metadata=definition.metadata)


def _read(path: Path) -> Recording:
    try:
        return Recording.read(path)
    except LamellaError as error:
        raise Unusable(error.message) from error


def _chosen(recording: Recording, wanted: str | None) -> list[RecordedRun]:
    runs = [run for run in recording.runs if wanted is None or wanted in run.id]
    if not runs:
        raise Unusable(f'{recording.path} has no run {wanted!r}')
    return runs


def _facts(run: RecordedRun) -> JSON:
    calls = [
        {
            'call': call.number,
            'turn': call.turn,
            'what': call.what,
            'name': call.name,
            'at_s': call.at_s,
            'took_s': round(call.ended_s - call.at_s, 6),
            'outcome': call.outcome,
            'parts': len(call.parts),
        }
        for call in run.calls
    ]
    return {
        'run': run.id,
        'at': run.began,
        'model': run.model,
        'status': _status(run),
        'parent': run.parent,
        'waited_s': sum(wait_s for _, wait_s in run.waits),
        'calls': calls,
    }


def _headline(run: RecordedRun) -> str:
    began = datetime.fromtimestamp(run.began, UTC).astimezone().strftime('%Y-%m-%d %H:%M:%S')
    parent = f'  inside of {run.parent}' if run.parent else ''
    return f'{began}  {run.id}  {_status(run)}  {len(run.calls)} calls  {run.model}{parent}'


def _status(run: RecordedRun) -> str:
    if run.end is None:
        return 'broken off'
    if 'response' in run.end:
        response = run.end['response']
        return str(response.get('stop_reason', 'final')) if isinstance(response, dict) else 'final'
    return 'left' if 'left' in run.end else 'failed'


def _lines(run: RecordedRun, content: bool) -> Iterator[str]:
    for call in run.calls:
        took = call.ended_s - call.at_s
        colour = {'error': 'red', 'left': 'yellow', None: 'yellow'}.get(call.outcome)
        yield click.style(f'{call.place}  +{call.at_s:.3f} s  {took:.3f} s  {clean(_said(call, content))}', fg=colour)
    for at_s, wait_s in run.waits:
        yield click.style(f'waited {wait_s:g} s  +{at_s:.3f} s', dim=True)
    if run.end is not None and 'error' in run.end:
        yield click.style(f'failed: {clean(_error(run.end["error"]))}', fg='red')


def _said(call: RecordedCall, content: bool) -> str:
    """What was asked and answered, on one line unless `content` is wanted."""
    asked = ''
    if call.what == 'tool':
        asked = f'{_cut(call.request["input"], content)} -> '
    elif content:
        asked = f'{_last(call)} -> '
    if call.outcome is None:
        return f'{asked}(under way when the recording ended)'
    if call.outcome == 'left':
        return f'{asked}(left after {len(call.parts)} parts)'
    if isinstance(call.result, BaseException):
        return f'{asked}{_error(plain_error(call.result))}'
    if isinstance(call.result, ToolResponse):
        return f'{asked}{_cut(plain(call.result.output), content)}'
    return asked + _answer(call.answer(), len(call.parts), content)


def _answer(response: ModelResponse, parts: int, content: bool) -> str:
    calls = ', '.join(
        f'{part.tool_request.name}({_cut(part.tool_request.input, content)})' for part in response.tool_requests
    )
    said = [_cut(response.text, content)] if response.text else []
    streamed = f'  [{parts} parts]' if parts else ''
    return ' '.join([*said, *([calls] if calls else [])]) + streamed


def _last(call: RecordedCall) -> str:
    messages = call.request.get('messages') if isinstance(call.request, dict) else None
    if not messages:
        return '(nothing)'
    last = messages[-1]
    texts = [str(part.get('text', part.get('$'))) for part in last.get('content', [])]
    return f'{last.get("role")}: {" ".join(texts)}'


def _cut(value: Any, content: bool) -> str:
    return json.dumps(value, ensure_ascii=False) if content else shown(value)


def _error(error: Any) -> str:
    if not isinstance(error, dict):
        return 'an error'
    return f'{error.get("status", error.get("class"))}: {error.get("message", "")}'.replace('\n', ' ')
