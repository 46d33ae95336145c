"""`lamella run`: one flow, or one function, with an input."""

from __future__ import annotations

import inspect
from typing import Any

import click

from lamella.cli._echo import echo
from lamella.cli._target import Unusable, object_of
from lamella.cli._values import finished, shown, value_of
from lamella.engine.app import Lamella
from lamella.engine.flows import Flow
from lamella.types import ConfigError


@click.command()
@click.argument('target')
@click.option('--input', 'given', help='JSON, or a text; @file reads a file, - standard input.')
@click.option('--context', 'context', help='A JSON object of values for layers and tools (tenant, user …).')
@click.option('--json', 'as_json', is_flag=True, help='Print the result as JSON on one line, texts too.')
def run(target: str, given: str | None, context: str | None, as_json: bool) -> None:
    """Run a flow: TARGET is module:flow, or module:app.flow_name with an app's own name for it.

    The result goes to standard output, everything else to standard error. Exit codes: 0 done, 1 the flow failed, 2 wrong usage or
    input.
    """
    flow, app = _flow(target)
    values = value_of(context, '--context')
    if values is not None and not isinstance(values, dict):
        raise Unusable(f'--context is {context!r}: give a JSON object')
    result = finished(app, flow.run(value_of(given, '--input'), context=values))
    if result is not None:
        echo(shown(result, as_json=as_json))


def _flow(target: str) -> tuple[Flow[Any, Any], Lamella]:
    module, _, name = target.partition(':')
    base, dot, last = name.rpartition('.')
    found: Any = None
    if dot:
        owner = object_of(f'{module}:{base}')
        found = owner.registry.flows.get(last) if isinstance(owner, Lamella) else None
    found = object_of(target) if found is None else found
    if isinstance(found, Flow):
        return found, found.ai
    if inspect.iscoroutinefunction(found):
        app = Lamella()
        try:
            return Flow(found, target, app), app
        except ConfigError as error:
            raise Unusable(error.message) from error
    raise Unusable(f'{target} is a {type(found).__name__}: name a flow (@ai.flow()) or an async function')
