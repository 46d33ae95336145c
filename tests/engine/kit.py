"""What the kernel's tests share: an app in one line, both doors as one call, and a block that forgives no leak."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from lamella import Lamella
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import Finished, GenerateResponse, ModelResponse, Restarted, StreamPart, TextDelta, fold

# What generate, `await stream.response` and fold(parts) must agree on. A fold knows the last turn only.
FOLDED = (
    'message',
    'finish_reason',
    'finish_message',
    'usage',
    'model',
    'id',
    'sources',
    'metadata',
    'warnings',
    'tool_responses',
)


def app(*answers: Any, clock: Any = None, seed: int = 7, repeat: bool = False, **options: Any) -> Lamella:
    """An app around a scripted model, with its own chance and time."""
    model = ScriptedModel(list(answers), repeat=repeat)
    return Lamella(model=model, clock=clock or FakeClock(), random=Random(seed), **options)


def scripted(ai: Lamella) -> ScriptedModel:
    model = ai.default_model
    assert isinstance(model, ScriptedModel)
    return model


async def read(ai: Lamella, **options: Any) -> list[StreamPart]:
    """All parts of a stream."""
    return [part async for part in ai.generate_stream(**options)]


async def both(build: Any, **options: Any) -> GenerateResponse:
    """One call through both doors, each with an app of its own from `build()`; the three results must agree."""
    whole = await build().generate(**options)
    stream = build().generate_stream(**options)
    parts = [part async for part in stream]
    response = await stream.response
    same_answer(response, whole)
    folds_to(parts, whole)
    return whole


def same_answer(streamed: GenerateResponse, whole: GenerateResponse) -> None:
    for field in GenerateResponse.__struct_fields__:
        assert getattr(streamed, field) == getattr(whole, field), field


def folds_to(parts: list[StreamPart], whole: ModelResponse) -> None:
    folded = fold(parts)
    for field in FOLDED:
        assert getattr(folded, field) == getattr(whole, field), f'fold(parts).{field}'


def shown(parts: list[StreamPart]) -> str:
    """What a reader has on the screen: text, cleared at every Restarted, turn after turn."""
    done, screen = '', ''
    for part in parts:
        if type(part) is TextDelta:
            screen += part.text
        elif type(part) is Restarted:
            screen = ''
        elif type(part) is Finished:
            done, screen = done + screen, ''
    return done + screen


@asynccontextmanager
async def no_leaks() -> AsyncIterator[None]:
    """Fails for tasks left running, generators left to the garbage collector, and errors that nobody saw."""
    loop, before, problems = asyncio.get_running_loop(), asyncio.all_tasks(), list[str]()
    hooks, handler, unraisable = sys.get_asyncgen_hooks(), loop.get_exception_handler(), sys.unraisablehook

    def abandoned(generator: Any) -> None:
        if generator.__name__ != 'streamed_run':  # a loop that is left gives up its own generator, and no other
            problems.append(f'{generator.__qualname__} was left to the garbage collector')
        hooks.finalizer(generator)

    sys.set_asyncgen_hooks(firstiter=hooks.firstiter, finalizer=abandoned)
    loop.set_exception_handler(lambda _, context: problems.append(f'loop: {context}'))
    sys.unraisablehook = lambda fact: problems.append(f'unraisable: {fact.exc_value!r} in {fact.object!r}')
    try:
        yield
        left = asyncio.all_tasks() - before
        gc.collect(1)
        problems += [f'task left: {task}' for task in left if not task.done()]
    finally:
        sys.set_asyncgen_hooks(*hooks)
        loop.set_exception_handler(handler)
        sys.unraisablehook = unraisable
    assert problems == [], problems


__all__ = [
    'CollectingSink',
    'FakeClock',
    'app',
    'both',
    'folds_to',
    'no_leaks',
    'read',
    'same_answer',
    'scripted',
    'shown',
]
