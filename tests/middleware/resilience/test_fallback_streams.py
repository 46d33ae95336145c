"""`Fallback` around streams: before and after the first content, for every `on_partial` and `commit`."""

import asyncio
from typing import Any

import pytest

from lamella import ModelResponse, Usage
from lamella.core.calls import stream_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import ModelHookParams
from lamella.middleware import BaseMiddleware, Fallback, Retry
from lamella.testing import ScriptedModel
from lamella.types import LamellaError, ModelRequest, Raw, ReasoningDelta, ResponseStarted, Restarted, TextDelta
from tests.middleware.kit import both, cut, down, end, kinds, no_leaks, shown, world

RAISE, RESTART = (Fallback(models=['x/b', 'x/c'], on_partial=how) for how in ('raise', 'restart'))
FINISH = Fallback(models=['x/b', 'x/c'], commit='finish')
each = pytest.mark.parametrize('layer', [RAISE, RESTART, FINISH], ids=['raise', 'restart', 'finish'])


@each
async def test_a_failure_before_the_first_content_moves_on_unseen(layer: Fallback) -> None:
    start = ResponseStarted('m-1', 'id-1')
    app = world({'x/a': [cut(start, Raw('ping'))], 'x/b': [down()], 'x/c': [[TextDelta('hello')]]})
    parts, error = await app.read(layer)
    assert (kinds(parts), shown(parts), error, app.asked) == (
        ['ResponseStarted', 'TextDelta', 'Finished'],
        'hello',
        None,
        'abc',
    )
    assert parts[0] == ResponseStarted('x/c')
    assert end(parts).model == 'x/c'
    assert end(parts).metadata['fallback'] == {
        'fallback_triggered': True,
        'original_model': 'x/a',
        'fallback_model': 'x/c',
        'fallback_attempt': 2,
        'error_code': 'UNAVAILABLE',
    }


@each
async def test_whole_and_streamed_calls_agree_before_the_first_content(layer: Fallback) -> None:
    def app() -> Any:
        answer = ModelResponse.text_of('hello', usage=Usage(1, 2, 3), metadata={'own': 1})
        return world({'x/a': [down()], 'x/b': [down('NOT_FOUND')], 'x/c': [answer]}).ai

    response = await both(app, prompt='hi', use=[layer])
    assert (response.text, sorted(response.metadata)) == ('hello', ['fallback', 'own'])


@each
async def test_the_first_models_stream_is_passed_on_as_it_is(layer: Fallback) -> None:
    app = world({'x/a': [ModelResponse.text_of('hello', metadata={'own': 1})], 'x/b': [], 'x/c': []})
    parts, _ = await app.read(layer)
    assert (shown(parts), end(parts).metadata, app.told) == ('hello', {'own': 1}, [])


@each
async def test_when_all_fail_before_any_content_the_last_error_is_raised(layer: Fallback) -> None:
    app = world({'x/a': [down()], 'x/b': [down()], 'x/c': [down('INTERNAL', 'last')]})
    parts, error = await app.read(layer)
    assert (parts, error.message, error.partial, len(error.attempts)) == ([], 'last', None, 3)


@pytest.mark.parametrize('content', [TextDelta('Hel'), ReasoningDelta('hm'), Raw('block', keep=True)])
async def test_after_any_content_the_error_is_let_through_with_what_had_arrived(content: Any) -> None:
    app = world({'x/a': [cut(content)], 'x/b': ['never asked'], 'x/c': []})
    parts, error = await app.read(RAISE)
    assert (kinds(parts)[-1], error.message, app.asked) == (type(content).__name__, 'cut', 'a')
    assert error.partial is not None


async def test_a_visible_restart_takes_back_the_text_of_the_failed_model() -> None:
    app = world({'x/a': [cut('Hel')], 'x/b': [cut('Bon')], 'x/c': ['Ciao']})
    parts, error = await app.read(RESTART)
    start = ['ResponseStarted', 'TextDelta']
    assert kinds(parts) == [*start, 'Restarted', *start, 'Restarted', *start, 'Finished']
    assert [part for part in parts if type(part) is Restarted] == [
        Restarted('fallback after UNAVAILABLE', 'x/b'),
        Restarted('fallback after UNAVAILABLE', 'x/c'),
    ]
    assert (shown(parts), error) == ('Ciao', None)


async def test_restarted_whole_and_streamed_calls_agree() -> None:
    response = await both(
        lambda: world({'x/a': [cut('Hel')], 'x/b': [down()], 'x/c': ['Ciao']}).ai, prompt='hi', use=[RESTART]
    )
    assert (response.text, response.metadata['fallback']['fallback_attempt']) == ('Ciao', 2)


async def test_the_last_models_failure_after_a_restart_has_its_own_partial_text() -> None:
    app = world({'x/a': [cut('Hel')], 'x/b': [down()], 'x/c': [cut('Cia')]})
    _, error = await app.read(RESTART)
    assert (error.partial.text, len(error.attempts)) == ('Cia', 3)


async def test_held_back_to_the_end_two_models_texts_are_never_seen_together() -> None:
    app = world({'x/a': [cut('Hel')], 'x/b': [cut('Bon')], 'x/c': ['Ciao']})
    parts, error = await app.read(FINISH)
    assert (kinds(parts), shown(parts), error) == (['ResponseStarted', 'TextDelta', 'Finished'], 'Ciao', None)


async def test_a_model_that_broke_off_cools_down_even_when_nobody_takes_its_place() -> None:
    layer = Fallback(models=['x/b'], cooldown_s=60)
    app = world({'x/a': [cut('Hel')], 'x/b': ['hello']})
    _, error = await app.read(layer)
    parts, _ = await app.read(layer)
    assert (error.message, shown(parts), app.asked) == ('cut', 'hello', 'ab')


async def test_a_model_that_cools_down_is_passed_over_in_streams_too() -> None:
    layer = Fallback(models=['x/b'], cooldown_s=60)
    app = world({'x/a': [down()], 'x/b': ['one', 'two']})
    await app.read(layer)
    parts, _ = await app.read(layer)
    assert (shown(parts), app.asked) == ('two', 'abb')
    assert end(parts).metadata['fallback']['fallback_attempt'] == 1


async def test_a_call_that_goes_on_from_a_text_stays_with_its_model() -> None:
    keeps = Retry(no_jitter=True, max_retries=2, on_partial='continue')
    app = world({'x/a': [cut('Hel'), down(), 'lo'], 'x/b': ['never asked'], 'x/c': []})
    parts, error = await app.read(keeps, RAISE)
    assert (shown(parts), error, app.asked) == ('Hello', None, 'aaa')


async def test_the_first_model_does_not_go_on_from_a_fallbacks_text() -> None:
    keeps = Retry(no_jitter=True, on_partial='continue')
    app = world({'x/a': [down(), 'from a'], 'x/b': [cut(ResponseStarted(), 'Bon')], 'x/c': []})
    parts, error = await app.read(keeps, RAISE)
    assert (shown(parts), error.message, error.partial.text, app.asked) == ('Bon', 'cut', 'Bon', 'aba')


class CallsAgain(BaseMiddleware):
    """Breaks the commit rule: asks again after its reader has seen something."""

    async def wrap_stream(self, params, ctx, next_fn):
        try:
            async for part in next_fn(params, ctx):
                yield part
        except LamellaError:
            async for part in next_fn(params, ctx):
                yield part


async def test_no_model_is_asked_after_a_layer_outside_has_broken_the_commit_rule() -> None:
    app = world({'x/a': [cut('Hel'), 'never asked'], 'x/b': ['never asked'], 'x/c': []})
    parts, error = await app.read(CallsAgain(), RAISE)
    assert (shown(parts), app.asked, app.told) == ('Hel', 'a', [])
    assert 'reached the reader' in error.message


async def test_a_reader_who_leaves_closes_the_stream_of_the_model_that_answers() -> None:
    app = world({'x/a': [down()], 'x/b': [[TextDelta('a'), TextDelta('b')]], 'x/c': []})
    async with no_leaks():
        stream = app.ai.generate_stream(prompt='hi', use=[RAISE])
        parts = aiter(stream)
        assert [type(await anext(parts)).__name__ for _ in range(2)] == ['ResponseStarted', 'TextDelta']
        await stream.aclose()
    assert app.models['x/b'].closed == 1


class OnlyBegins(BaseMiddleware):
    """Hands on the start and nothing else."""

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            if type(part) is ResponseStarted:
                yield part


@pytest.mark.breaks_stream_rules
async def test_a_stream_that_only_begins_is_passed_on_and_is_no_answer() -> None:
    app = world({'x/a': ['hello'], 'x/b': [], 'x/c': []})
    parts, error = await app.read(RAISE, OnlyBegins())
    assert kinds(parts) == ['ResponseStarted']
    assert 'no Finished at its end' in str(error)


@each
async def test_it_closes_the_stream_inside_before_anything_else_happens(layer: Fallback) -> None:
    """Also where no engine cleans up behind it."""
    model = ScriptedModel([[TextDelta('a'), TextDelta('b')]])
    context = GenerateMiddlewareContext(world({'x/a': [], 'x/b': [], 'x/c': []}).ai)
    stream = layer.wrap_stream(ModelHookParams(ModelRequest(), model), context, stream_model)
    assert [type(await anext(stream)).__name__ for _ in range(2)] == ['ResponseStarted', 'TextDelta']
    async with no_leaks():
        await stream.aclose()
        assert model.closed == 1


async def test_two_hundred_streams_share_one_instance() -> None:
    layer = Fallback(models=['x/b'], on_partial='restart', cooldown_s=5)

    def by_prompt(request: Any) -> Any:
        n = int(request.messages[0].text)
        return [TextDelta(f'half of {n}'), LamellaError('UNAVAILABLE', 'cut')] if n % 2 else f'a{n}'

    app = world({'x/a': [by_prompt], 'x/b': [lambda request: f'b{request.messages[0].text}']}, repeat=True)

    async def read(n: int) -> str:
        return shown([part async for part in app.ai.generate_stream(prompt=str(n), use=[layer])])

    texts = await asyncio.gather(*map(read, range(200)))
    assert all(text in (f'a{n}', f'b{n}') for n, text in enumerate(texts))
    assert all(text == f'b{n}' for n, text in enumerate(texts) if n % 2)
