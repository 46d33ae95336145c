"""`Retry` around streams: before and after the first content, for every `on_partial` and `commit`."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Message, ModelResponse, Usage, wrap_language_model
from lamella.core.calls import stream_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import ModelHookParams
from lamella.middleware import BaseMiddleware, Retry
from lamella.testing import ScriptedModel
from lamella.types import (
    File,
    Finished,
    LamellaError,
    MediaPart,
    ModelRequest,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    TextDelta,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
)
from tests.middleware.kit import HeldClock, both, cut, down, end, folds_to, kinds, no_leaks, shown, world

RAISE, RESTART, CONTINUE = (Retry(no_jitter=True, on_partial=how) for how in ('raise', 'restart', 'continue'))
FINISH = Retry(no_jitter=True, commit='finish')
ALL = [RAISE, RESTART, CONTINUE, FINISH]
each = pytest.mark.parametrize('layer', ALL, ids=['raise', 'restart', 'continue', 'finish'])


# ── before the first content ────────────────────────────────────────────────────────────────────────────────────────


@each
async def test_a_failure_before_the_first_content_leaves_no_trace_in_the_stream(layer: Retry) -> None:
    start = ResponseStarted('m-1', 'id-0')
    app = world({'x/a': [down(), cut(start), cut(start, Raw('ping')), 'hello']})
    parts, error = await app.read(layer)
    assert (kinds(parts), shown(parts), error) == (['ResponseStarted', 'TextDelta', 'Finished'], 'hello', None)
    assert (app.asked, app.clock.slept) == ('aaaa', [1, 2, 4])
    assert end(parts).metadata == {'retry': {'attempts': 4, 'waited_s': 7.0}}


@each
async def test_whole_and_streamed_calls_agree_before_the_first_content(layer: Retry) -> None:
    response = await both(lambda: world({'x/a': [down(), down(), 'hello']}).ai, prompt='hi', use=[layer])
    assert response.metadata == {'retry': {'attempts': 3, 'waited_s': 3.0}}


@each
async def test_the_last_failure_before_any_content_is_raised_and_nothing_was_shown(layer: Retry) -> None:
    app = world({'x/a': [down()]}, repeat=True)
    parts, error = await app.read(layer)
    assert parts == []
    assert (error.status, error.partial, len(error.attempts)) == ('UNAVAILABLE', None, 4)


@each
async def test_a_wait_that_is_too_long_for_a_stream_is_not_begun(layer: Retry) -> None:
    app = world({'x/a': [down('RESOURCE_EXHAUSTED', retry_after_s=120)]})
    parts, error = await app.read(layer)
    assert (parts, error.retry_after_s, app.asked, app.clock.slept) == ([], 120, 'a', [])


@each
async def test_an_answer_without_content_is_passed_on(layer: Retry) -> None:
    app = world({'x/a': [[Finished('stop')]]})
    parts, _ = await app.read(layer)
    assert kinds(parts) == ['ResponseStarted', 'Finished']


async def test_what_comes_before_the_first_content_is_kept_in_order() -> None:
    app = world({'x/a': [[ResponseStarted('m'), Raw(1), Raw(2), TextDelta('x'), Raw(3)]]})
    parts, _ = await app.read(RAISE)
    assert kinds(parts) == ['ResponseStarted', 'Raw', 'Raw', 'TextDelta', 'Raw', 'Finished']
    assert [part.data for part in parts if isinstance(part, Raw)] == [1, 2, 3]


async def test_what_is_held_back_has_a_bound() -> None:
    """A provider that sends no content for ever must not fill the memory: then its parts count as shown."""
    model = ScriptedModel([[*map(Raw, range(1000)), LamellaError('UNAVAILABLE', 'cut')]])
    stream = world({'x/a': []}).ai.generate_stream(model=model, prompt='hi', use=[RAISE])
    first = await anext(aiter(stream))
    assert type(first) is ResponseStarted
    assert model.pulled < 100
    await stream.aclose()


async def test_nothing_is_read_ahead_of_the_reader() -> None:
    app = world({'x/a': [[TextDelta('a'), TextDelta('b'), TextDelta('c')]]})
    stream = app.ai.generate_stream(prompt='hi', use=[RAISE])
    parts = aiter(stream)
    assert [type(await anext(parts)).__name__, (await anext(parts)).text] == ['ResponseStarted', 'a']
    assert app.models['x/a'].pulled == 1
    await stream.aclose()
    assert app.models['x/a'].closed == 1


# ── after the first content: raise ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    'content',
    [
        TextDelta('Hel'),
        ReasoningDelta('hm'),
        ToolInputDelta('{'),
        ToolRequested(ToolRequest('t', {}, 'r')),
        Source('http://x'),
        File(MediaPart(data=b'x')),
        Raw('block', keep=True),
    ],
    ids=lambda part: type(part).__name__,
)
async def test_after_any_content_the_error_is_let_through_with_what_had_arrived(content: Any) -> None:
    app = world({'x/a': [cut(content), 'never asked']})
    parts, error = await app.read(RAISE)
    assert kinds(parts) == ['ResponseStarted', type(content).__name__]
    assert (error.message, app.asked, app.clock.slept) == ('cut', 'a', [])
    assert error.partial is not None
    assert app.sink.named('retry.gave_up')[0].facts['reason'] == 'partial'


async def test_the_partial_text_is_in_the_error() -> None:
    app = world({'x/a': [down(), cut('Hel', 'lo')]})
    _, error = await app.read(RAISE)
    assert (error.partial.text, app.asked, len(error.attempts)) == ('Hello', 'aa', 2)


# ── after the first content: restart ────────────────────────────────────────────────────────────────────────────────


async def test_a_visible_restart_takes_back_what_was_shown() -> None:
    app = world({'x/a': [cut('Hel'), down(), cut('Hell'), 'Hello']})
    parts, error = await app.read(RESTART)
    start = ['ResponseStarted', 'TextDelta']
    assert kinds(parts) == [*start, 'Restarted', *start, 'Restarted', *start, 'Finished']
    assert (shown(parts), error, app.clock.slept) == ('Hello', None, [1, 2, 4])
    restarted = parts[2]
    assert restarted == Restarted('retry after UNAVAILABLE', 'x/a')


async def test_the_response_of_a_restarted_stream_is_that_of_a_whole_call() -> None:
    def app() -> Any:
        return world({'x/a': [cut('Hel'), cut('Hell'), ModelResponse.text_of('Hello', usage=Usage(1, 2, 3))]}).ai

    response = await both(app, prompt='hi', use=[RESTART])
    assert (response.text, response.usage, response.metadata['retry']['attempts']) == ('Hello', Usage(1, 2, 3), 3)


async def test_the_shown_text_stays_until_the_next_attempt_begins() -> None:
    """Who reads sees the text during the wait, and is told only when something new follows."""
    clock = HeldClock()
    app = world({'x/a': [cut('Hel'), 'Hello']}, clock=clock)
    parts = aiter(app.ai.generate_stream(prompt='hi', use=[RESTART]))
    await anext(parts)
    await anext(parts)
    waiting = asyncio.ensure_future(anext(parts))
    await clock.somebody_sleeps()
    assert not waiting.done()
    await clock.advance(1)
    assert type(await waiting) is Restarted
    assert [type(part).__name__ async for part in parts] == ['ResponseStarted', 'TextDelta', 'Finished']


async def test_a_restart_that_fails_for_good_raises() -> None:
    app = world({'x/a': [cut('Hel'), down('INVALID_ARGUMENT', 'no')]})
    parts, error = await app.read(RESTART)
    assert (kinds(parts)[-1], error.status, error.partial) == ('Restarted', 'INVALID_ARGUMENT', None)


async def test_a_restart_that_is_not_to_be_waited_for_raises_with_the_text_that_is_there() -> None:
    app = world({'x/a': [cut('Hel', retry_after_s=120)]})
    parts, error = await app.read(RESTART)
    assert (kinds(parts)[-1], error.partial.text) == ('TextDelta', 'Hel')


# ── after the first content: continue ───────────────────────────────────────────────────────────────────────────────


async def test_a_continuation_passes_on_only_what_is_new() -> None:
    app = world({'x/a': [cut('Hel'), cut('lo ', 'wor'), 'ld']})
    parts, error = await app.read(CONTINUE)
    assert kinds(parts) == ['ResponseStarted', *['TextDelta'] * 4, 'Finished']
    assert ([part.text for part in parts[1:-1]], error) == (['Hel', 'lo ', 'wor', 'ld'], None)
    assert end(parts).metadata['retry'] == {'attempts': 3, 'waited_s': 3.0}


async def test_the_model_is_given_the_text_so_far_as_the_beginning_of_its_answer() -> None:
    app = world({'x/a': [cut('Hel'), cut('lo '), 'world']})
    await app.read(CONTINUE)
    asked = [request.messages for request in app.models['x/a'].requests]
    user = Message.user('hi')
    assert asked == [(user,), (user, Message.assistant('Hel')), (user, Message.assistant('Hello'))]


async def test_the_response_of_a_continued_stream_is_one_text_with_the_usage_of_all_known_attempts() -> None:
    paid = ModelResponse(usage=Usage(10, 1, 11))
    app = world(
        {'x/a': [cut('Hel', partial=paid), [TextDelta('lo', 4), Finished('stop', Usage(11, 1, 12), 'm', 'id-2')]]}
    )
    stream = app.ai.generate_stream(prompt='hi', use=[CONTINUE])
    parts = [part async for part in stream]
    response = await stream.response
    assert [part.text for part in response.message.content] == ['Hello']
    assert (response.usage, response.id, response.finish_reason) == (Usage(21, 2, 23), 'id-2', 'stop')
    folds_to(parts, response)


@pytest.mark.parametrize(
    ('before', 'after', 'text'),
    [
        (['one '], [' two'], 'one two'),
        (['one '], ['two'], 'one two'),
        (['one \n'], [' ', '\n', '\n', 'two'], 'one \n\ntwo'),
        (['one '], [' ', ' ', 'two'], 'one  two'),
        (['one'], [' two'], 'one two'),
        (['one', '  '], [' x'], 'one  x'),
    ],
)
async def test_white_space_at_the_seam_is_neither_lost_nor_doubled(
    before: list[str], after: list[str], text: str
) -> None:
    app = world({'x/a': [cut(*before), [*map(TextDelta, after)]]})
    parts, _ = await app.read(CONTINUE)
    assert shown(parts) == text
    assert app.models['x/a'].requests[1].messages[-1].text == 'one'


@given(st.text('ab \n', min_size=1, max_size=12), st.lists(st.integers(1, 4), max_size=6), st.data())
def test_wherever_the_text_is_cut_the_reader_gets_it_whole(text: str, sizes: list[int], data: st.DataObject) -> None:
    """The model says its text from where the request ends, as a model that continues does."""
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=3).map(sorted))

    def answer(request: Any) -> Any:
        said = request.messages[1].text if len(request.messages) > 1 else ''
        rest = text[len(said) :]
        upto = cuts.pop(0) - len(said) if cuts else None
        pieces = [TextDelta(piece) for piece in pieces_of(rest[: max(upto, 0)] if upto is not None else rest, sizes)]
        return pieces if upto is None else [*pieces, LamellaError('UNAVAILABLE', 'cut')]

    app = world({'x/a': [answer]}, repeat=True)
    parts, error = asyncio.run(app.read(Retry(no_jitter=True, max_retries=5, on_partial='continue')))
    if error is None:
        assert shown(parts) == text
    else:  # nothing but white space was there to go on from
        assert not error.partial.text.strip()


def pieces_of(text: str, sizes: list[int]) -> list[str]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    return [piece for piece in [*pieces, text[at:]] if piece]


async def test_blocks_of_a_continuation_are_numbered_behind_those_that_are_there() -> None:
    first = cut(ReasoningDelta('think', 0), TextDelta('Hel', 1))
    second = [
        ReasoningDelta('more', 0),
        TextDelta('lo', 1),
        ToolRequested(ToolRequest('t', {}, 'r'), 2),
        Finished('length'),
    ]
    app = world({'x/a': [first, second]})
    stream = app.ai.generate_stream(prompt='hi', use=[CONTINUE])
    response = await stream.response
    assert [type(part).__name__ for part in response.message.content] == [
        'ReasoningPart',
        'TextPart',
        'ReasoningPart',
        'ToolRequestPart',
    ]
    assert (response.text, response.reasoning) == ('Hello', 'thinkmore')


@pytest.mark.parametrize(
    'content',
    [
        [ToolInputDelta('{')],
        [TextDelta('I ask'), ToolRequested(ToolRequest('t', {}, 'r'), 1)],
        [ReasoningDelta('hm')],
        [TextDelta('  ')],
        [TextDelta('x'), File(MediaPart(data=b'x'), 1)],
        [TextDelta('x'), Raw('block', 1, keep=True)],
    ],
)
async def test_what_is_not_text_cannot_be_continued(content: list[Any]) -> None:
    app = world({'x/a': [cut(*content), 'never asked']})
    parts, error = await app.read(CONTINUE)
    assert (error.message, app.asked) == ('cut', 'a')
    assert 'Restarted' not in kinds(parts)


async def test_pings_and_sources_beside_the_text_are_no_obstacle() -> None:
    app = world({'x/a': [cut('Hel', Raw('ping', 1), Source('http://x')), [TextDelta('lo'), Source('http://y')]]})
    stream = app.ai.generate_stream(prompt='hi', use=[CONTINUE])
    response = await stream.response
    assert (response.text, [source.url for source in response.sources]) == ('Hello', ['http://x', 'http://y'])


async def test_a_continuation_that_fails_for_good_has_all_the_text_in_its_error() -> None:
    paid = ModelResponse(usage=Usage(1, 1, 2))
    app = world({'x/a': [cut('Hel', partial=paid), cut('lo', partial=paid)]})
    _, error = await app.read(Retry(max_retries=1, on_partial='continue'))
    assert (error.partial.text, error.partial.usage, len(error.attempts)) == ('Hello', Usage(2, 2, 4), 2)


async def test_a_continuation_is_joined_to_a_beginning_that_the_caller_gave() -> None:
    app = world({'x/a': [cut('lo '), 'world']})
    stream = app.ai.generate_stream(messages=['hi', Message.assistant('Hel')], use=[CONTINUE])
    assert (await stream.response).text == 'lo world'
    assert app.models['x/a'].requests[1].messages == (Message.user('hi'), Message.assistant('Hel', 'lo'))


async def test_another_models_text_is_never_joined() -> None:
    first, second = [ResponseStarted('m-1'), TextDelta('Hel')], [ResponseStarted('m-2'), TextDelta('Bonjour')]
    app = world({'x/a': [cut(*first), second]})
    parts, error = await app.read(CONTINUE)
    assert (shown(parts), error.message, error.partial.text, app.asked) == ('Hel', 'cut', 'Hel', 'aa')


# ── commit='finish' ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('on_partial', ['raise', 'restart', 'continue'])
async def test_held_back_to_the_end_no_failed_attempt_is_ever_seen(on_partial: Any) -> None:
    app = world({'x/a': [cut('Hel'), cut('Hell'), 'o' if on_partial == 'continue' else 'Hello']})
    parts, error = await app.read(Retry(no_jitter=True, commit='finish', on_partial=on_partial))
    expected = 'HelHello' if on_partial == 'continue' else 'Hello'
    assert (kinds(parts), shown(parts), error) == (['ResponseStarted', 'TextDelta', 'Finished'], expected, None)
    assert end(parts).metadata['retry'] == {'attempts': 3, 'waited_s': 3.0}


async def test_held_back_whole_and_streamed_calls_always_agree() -> None:
    def app() -> Any:
        return world({'x/a': [cut('Hel'), down(), cut('Hell'), 'Hello']}).ai

    assert (await both(app, prompt='hi', use=[FINISH])).text == 'Hello'


# ── with others ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_retry_outside_of_a_restarting_one_sees_its_restarts() -> None:
    inner = Retry(max_retries=1, no_jitter=True, on_partial='restart')
    app = world({'x/a': [cut('one'), down(), cut('two'), 'three']})
    parts, error = await app.read(RAISE, inner)
    assert (shown(parts), error, app.asked) == ('three', None, 'aaaa')
    assert kinds(parts).count('Restarted') == 2


async def test_a_retry_inside_of_a_continuation_stays_one() -> None:
    app = world({'x/a': [cut('Hel'), down(), down(), 'lo']})
    inner = Retry(max_retries=2, no_jitter=True)
    parts, error = await app.read(CONTINUE, inner)
    assert (shown(parts), error, app.asked) == ('Hello', None, 'aaaa')
    assert [len(request.messages) for request in app.models['x/a'].requests] == [1, 2, 2, 2]


class Louder(BaseMiddleware):
    """Knows only whole calls."""

    async def wrap_model(self, params, ctx, next_fn):
        return await next_fn(params, ctx)


@pytest.mark.parametrize('outside', [True, False])
async def test_layers_that_know_only_whole_calls_may_stand_on_either_side(outside: bool) -> None:
    use = [Louder(), RESTART] if outside else [RESTART, Louder()]
    app = world({'x/a': [cut('Hel'), 'Hello']})
    parts, error = await app.read(*use)
    assert (shown(parts), error, kinds(parts).count('Restarted')) == ('Hello', None, 1)


class CallsAgain(BaseMiddleware):
    """Breaks the commit rule: asks again after its reader has seen something."""

    async def wrap_stream(self, params, ctx, next_fn):
        try:
            async for part in next_fn(params, ctx):
                yield part
        except LamellaError:
            async for part in next_fn(params, ctx):
                yield part


async def test_nothing_is_waited_for_after_a_layer_outside_has_broken_the_commit_rule() -> None:
    app = world({'x/a': [cut('Hel'), 'never asked']})
    parts, error = await app.read(CallsAgain(), RAISE)
    assert (shown(parts), error.status, app.asked, app.clock.slept) == ('Hel', 'UNAVAILABLE', 'a', [])
    assert 'reached the reader' in error.message


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
async def test_it_closes_the_stream_inside_before_anything_else_happens(layer: Retry) -> None:
    """Also where no engine cleans up behind it."""
    model = ScriptedModel([[TextDelta('a'), TextDelta('b')]])
    context = GenerateMiddlewareContext(world({'x/a': []}).ai)
    stream = layer.wrap_stream(ModelHookParams(ModelRequest(), model), context, stream_model)
    assert [type(await anext(stream)).__name__ for _ in range(2)] == ['ResponseStarted', 'TextDelta']
    async with no_leaks():
        await stream.aclose()
        assert model.closed == 1


async def test_it_streams_fixed_on_a_model() -> None:
    model = wrap_language_model(model=ScriptedModel([cut('Hel'), 'Hello'], name='y/m'), middleware=RESTART)
    parts, _ = await world({'x/a': []}).read(model=model)
    assert (shown(parts), kinds(parts).count('Restarted')) == ('Hello', 1)


async def test_a_reader_who_leaves_during_a_wait_leaves_nothing_behind() -> None:
    clock = HeldClock()
    app = world({'x/a': [cut('Hel'), 'never asked']}, clock=clock)
    async with no_leaks():
        reader = asyncio.create_task(app.read(RESTART))
        await clock.somebody_sleeps()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
    await clock.advance(100)
    assert app.asked == 'a'


async def test_a_reader_who_leaves_early_closes_the_providers_stream() -> None:
    app = world({'x/a': [down(), [TextDelta('a'), TextDelta('b')]]})
    async with no_leaks():
        stream = app.ai.generate_stream(prompt='hi', use=[RAISE])
        parts = aiter(stream)
        assert [type(await anext(parts)).__name__ for _ in range(2)] == ['ResponseStarted', 'TextDelta']
        await stream.aclose()
    assert app.models['x/a'].closed == 1


async def test_two_hundred_streams_share_one_instance() -> None:
    layer, calls = Retry(max_retries=2, no_jitter=True, on_partial='continue'), dict[str, int]()

    def answer(request: Any) -> Any:
        prompt = request.messages[0].text
        calls[prompt] = calls.get(prompt, 0) + 1
        if calls[prompt] > int(prompt) % 3:
            return f'end of {prompt}'
        return [TextDelta(f'{prompt},'), LamellaError('UNAVAILABLE', 'cut')]

    app = world({'x/a': [answer]}, repeat=True)

    async def read(n: int) -> str:
        return ''.join([text async for text in app.ai.generate_stream(prompt=str(n), use=[layer]).text_stream])

    texts = await asyncio.gather(*map(read, range(200)))
    assert texts == [f'{n},' * (n % 3) + f'end of {n}' for n in range(200)]
