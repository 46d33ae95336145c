"""What the place of the layers costs: the same five around every call of the app, given to the call, built for it, or fixed on
the model once; and each part of a stream. No promise of the design but one: none of the three places costs more than another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from benchmarks.measure import Result, per_call_now, show
from benchmarks.subjects import PIECES, PassModel, PassStream, app, instant, thousand
from lamella import Lamella, wrap_language_model
from lamella.middleware import BaseMiddleware, generate_middleware

LAYERS = 5
PARTS = len(PIECES) + 2
SAME = 1.0  # µs: the places are the same within this


class Settings(BaseModel):
    """Settings like the second seed's."""

    trace_id: str = Field(min_length=1)
    max_retries: int = Field(default=3, ge=1, le=5)


class Configured(BaseMiddleware[Settings]):
    """A layer whose settings are checked whenever it is built."""

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        return await next_fn(params, ctx)


@generate_middleware(name='interceptor', config_schema=Settings)
def interceptor(config: Settings) -> dict[str, Any]:
    async def model(params: Any, ctx: Any, next_fn: Any) -> Any:
        return await next_fn(params, ctx)

    return {'model': model}


def run() -> list[Result]:
    whole = per_call_now(_calls(), count=200, rounds=100)
    part = {name: value / PARTS for name, value in per_call_now(_streams(), count=1, rounds=60).items()}
    none, dynamic = whole['no layers'], whole['given to the call, a kept list']
    fixed, once = whole['fixed on a model'] - none, whole['fixed on a model that has no layers'] - none
    return [
        *[
            Result(f'{LAYERS} layers {name}' if name != 'no layers' else name, value, 'µs', none)
            for name, value in whole.items()
            if name not in ('fixed on a model that has no layers', 'one layer built for the call')
        ],
        Result('a wrapped model, before its layers', once, 'µs', None),
        Result(
            'static against dynamic',
            fixed - (dynamic - none),
            'µs',
            None,
            f'≤ {SAME:g} µs',
            fixed - dynamic + none <= SAME,
        ),
        Result('one layer, built for the call', whole['one layer built for the call'] - none, 'µs', None),
        Result('each part, given to the call', part['dynamic'] - part['none'], 'µs', None),
        Result('each part, fixed on a model', part['static'] - part['none'], 'µs', None),
    ]


def _calls() -> dict[str, Callable[[], Any]]:
    ai, kept = app(), [PassModel() for _ in range(LAYERS)]
    around = Lamella(model=instant, use=kept)
    fixed = wrap_language_model(model=instant, middleware=kept)
    bare = wrap_language_model(model=instant, middleware=[])
    nested: Any = instant
    for layer in reversed(kept):
        nested = wrap_language_model(model=nested, middleware=layer)
    named = wrap_language_model(model='bench/instant', middleware=kept)
    return {
        'no layers': lambda: ai.generate(model=instant, prompt='hi'),
        'around the app': lambda: around.generate(prompt='hi'),
        'given to the call, a kept list': lambda: ai.generate(model=instant, prompt='hi', use=kept),
        'given to the call, built for it': lambda: ai.generate(
            model=instant, prompt='hi', use=[PassModel() for _ in range(LAYERS)]
        ),
        'of a factory, built for the call': lambda: ai.generate(
            model=instant, prompt='hi', use=[interceptor(trace_id='t') for _ in range(LAYERS)]
        ),
        'fixed on a model': lambda: ai.generate(model=fixed, prompt='hi'),
        'fixed on a model by its name': lambda: ai.generate(model=named, prompt='hi'),
        'fixed one by one, wrapped again': lambda: ai.generate(model=nested, prompt='hi'),
        'fixed on a model, outside of any app': lambda: fixed.ask('hi'),
        'fixed on a model that has no layers': lambda: ai.generate(model=bare, prompt='hi'),
        'one layer built for the call': lambda: ai.generate(
            model=instant, prompt='hi', use=[Configured(trace_id='t', max_retries=2)]
        ),
    }


def _streams() -> dict[str, Callable[[], Any]]:
    ai, kept = Lamella(), [PassStream() for _ in range(LAYERS)]
    fixed = wrap_language_model(model=thousand, middleware=kept)
    return {
        'none': _reading(ai, thousand, []),
        'dynamic': _reading(ai, thousand, kept),
        'static': _reading(ai, fixed, []),
    }


def _reading(ai: Lamella, model: Any, use: list[Any]) -> Callable[[], Any]:
    async def read() -> None:
        async for _ in ai.generate_stream(model=model, prompt='hi', use=use):
            pass

    return read


if __name__ == '__main__':
    show(run())
