"""The commit rule: whatever layers do, no reader sees a text twice or two attempts mixed, unless a Restarted says so."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, wrap_language_model
from lamella.middleware import BaseMiddleware
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ConfigError, Finished, ResponseStarted, Restarted, TextDelta, ToolRequest, ToolRequested
from tests.engine.kit import no_leaks
from tests.engine.strategies import RETRYING, echo, retrying

AROUND_A_MODEL = {'transform_params', 'wrap_model', 'wrap_stream'}
plans = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(['ok', 'ok', 'fails', 'tool'])), min_size=1, max_size=6)


def speaking(plan: list[tuple[int, str]]) -> ScriptedModel:
    """A model whose every call says words that no other call says: `<call>.<word>`."""
    calls = count()

    def answer(request: Any) -> list[Any]:
        call = next(calls)
        words, end = plan[call % len(plan)]
        parts: list[Any] = [ResponseStarted('scripted/model'), *(TextDelta(f'{call}.{word} ') for word in range(words))]
        if end == 'fails':
            return [*parts, LamellaError('UNAVAILABLE', 'down')]
        if end == 'tool' and call < 5:
            return [*parts, ToolRequested(ToolRequest('echo', {'text': 'x'}, f'ref-{call}')), Finished('tool_calls')]
        return [*parts, Finished('stop')]

    return ScriptedModel([answer], repeat=True)


class Reader:
    """Holds what is on the screen against the rule."""

    def __init__(self) -> None:
        self.screen: list[str] = []
        self.starts = 0

    def see(self, part: Any) -> None:
        if type(part) in (Restarted, Finished):
            self.screen, self.starts = [], 0
        elif type(part) is ResponseStarted:
            assert not self.screen, f'a second start after {self.screen}'
        elif type(part) is TextDelta:
            self.screen += part.text.split()
            assert len(set(self.screen)) == len(self.screen), f'twice on the screen: {self.screen}'
            origins = {word.split('.')[0].lower() for word in self.screen if '.' in word}
            assert len(origins) <= 1, f'two attempts mixed: {self.screen}'


async def watch(ai: Lamella, **options: Any) -> tuple[list[Any], Any]:
    reader, parts = Reader(), []
    stream = ai.generate_stream(**options)
    try:
        async for part in stream:
            reader.see(part)
            parts.append(part)
        return parts, await stream.response
    except Exception as error:
        return parts, error


@pytest.mark.breaks_stream_rules
@settings(max_examples=300)
@given(plan=plans, fixed=st.none() | retrying, layers=retrying)
async def test_no_reader_sees_a_text_twice_or_two_attempts_mixed(plan, fixed, layers) -> None:
    model: Any = speaking(plan)
    if fixed is not None:
        model = wrap_language_model(model=model, middleware=[layer for layer in fixed if layer._hooks & AROUND_A_MODEL])
    async with no_leaks():
        await watch(Lamella(model=model, clock=FakeClock()), prompt='hi', tools=[echo], use=layers, max_turns=4)


@pytest.mark.parametrize('kind', RETRYING, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize('fixed', [False, True])
async def test_each_layer_alone_keeps_the_rule_when_every_call_fails_after_its_text(kind, fixed) -> None:
    model: Any = speaking([(2, 'fails')])
    if fixed and not kind._hooks & AROUND_A_MODEL:
        with pytest.raises(ConfigError, match='would never act'):
            wrap_language_model(model=model, middleware=[kind()])
        return
    model = wrap_language_model(model=model, middleware=[kind()]) if fixed else model
    async with no_leaks():
        await watch(Lamella(model=model, clock=FakeClock()), prompt='hi', use=[] if fixed else [kind()])


async def test_two_answers_that_a_layer_reads_in_turn_are_never_mixed() -> None:
    class Alternates(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            one, two = next_fn(params, ctx), next_fn(params, ctx)
            async for part in one:
                yield part
                yield await anext(two)

    shown: list[str] = []
    ai = Lamella(model=ScriptedModel([[TextDelta('a'), TextDelta('b')]], repeat=True))

    async def read_all() -> None:
        async for part in ai.generate_stream(prompt='hi', use=[Alternates()]):
            shown.extend([part.text] if isinstance(part, TextDelta) else [])

    with pytest.raises(LamellaError, match='reached the reader'):
        await read_all()
    assert shown == ['a']
