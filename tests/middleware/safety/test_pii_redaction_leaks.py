"""Nothing leaks: one run with personal data everywhere, and every place that somebody may look into afterwards."""

import io
import logging
import pickle
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from lamella import Lamella, LamellaError
from lamella.core.order import findings
from lamella.middleware import BaseMiddleware, Cache, ConsoleLogger, Fallback, PIIRedaction, Retry, wrap_language_model
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    Finished,
    Message,
    ModelResponse,
    Rejected,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    ToolResponse,
)

# Written so that no line of source, which a traceback shows, has one of them whole.
SECRETS = [
    'anna' + '@example.com',
    '+1 415-' + '555-2671',
    '4111 1111 ' + '1111 1111',
    '536-22-' + '8726',
    'sk-proj-' + 'abcdefghijkl0',
    'E123' + '456',
]
ALL = ', '.join(SECRETS)
OPTIONS: dict[str, Any] = {'patterns': {'employee': r'E\d{6}'}}


class Memory(BaseMiddleware):
    """What a recorder, a cache or a tracer does: it keeps all that it is shown."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
        self.kept.append(params.request)
        try:
            response = await next_fn(params, ctx)
        except LamellaError as error:
            self.kept.append([error, str(error), error.details, error.partial, error.attempts])
            raise
        self.kept.append(response)
        return response

    async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> ToolResponse:
        self.kept.append(params.tool_request_part)
        try:
            response = await next_fn(params, ctx)
        except Exception as error:
            self.kept.append([error, str(error)])
            raise
        self.kept.append(response)
        return response


def leaks(*shown: Any) -> list[str]:
    """The secrets in what is shown, by text and by everything that it consists of."""
    text = ''.join([repr(one) + _pickled(one) for one in shown])
    return [secret for secret in SECRETS if secret in text]


def _pickled(value: Any) -> str:
    try:
        return pickle.dumps(value).decode('latin-1')
    except Exception:
        return ''


def crm(query: str) -> dict[str, Any]:
    """Look somebody up."""
    return {'about': ALL, SECRETS[0]: [SECRETS[1], {'card': int(SECRETS[2].replace(' ', ''))}]}


def broken(query: str) -> str:
    """Fails."""
    raise ValueError(f'no row for {ALL}')


def asks(tool: str) -> Any:
    def answer(request: Any) -> list[StreamPart]:
        last = request.messages[-1].text
        return [
            TextDelta('I look. '),
            ToolInputDelta('{"query": "', 1, tool, 'r-1'),
            ToolInputDelta('x"}', 1),
            ToolRequested(ToolRequest(tool, {'query': last}, 'r-1'), 1),
            Finished('tool_calls'),
        ]

    return answer


def echoes(request: Any) -> str:
    """What an obedient model does: it says all that it was told."""
    return ' '.join([message.text for message in request.messages]) + repr(request.messages[-1].content)


def down(request: Any) -> LamellaError:
    return LamellaError(
        'UNAVAILABLE',
        f'cannot serve {request.messages[-1].text} for {ALL}',
        details={'body': ALL},
        partial=ModelResponse.text_of(ALL),
    )


async def run(
    use: Sequence[Any], answers: Sequence[Any], streaming: bool, tools: Any, sink: CollectingSink
) -> tuple[Any, list[StreamPart]]:
    ai = Lamella(model=ScriptedModel(list(answers)), sinks=[sink], clock=FakeClock())
    options: dict[str, Any] = {'prompt': f'I am {ALL}', 'use': list(use), 'tools': tools}
    parts: list[StreamPart] = []
    try:
        if not streaming:
            return await ai.generate(**options), parts
        stream = ai.generate_stream(**options)
        async for part in stream:
            parts.append(part)
        return await stream.response, parts
    except Exception as error:
        return error, parts


both_ways = pytest.mark.parametrize('streaming', [False, True])
modes = pytest.mark.parametrize('mode', ['mask', 'tokenize'])


@both_ways
@modes
@pytest.mark.parametrize('logger_first', [True, False])
async def test_events_and_logs(
    mode: Any, streaming: bool, logger_first: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    out, sink = io.StringIO(), CollectingSink()
    redaction, logger = PIIRedaction(mode=mode, **OPTIONS), ConsoleLogger(stream=out, show_input=True, max_chars=5000)
    use = [logger, redaction] if logger_first else [redaction, logger]
    response, _ = await run(use, [asks('crm'), echoes], streaming, [crm], sink)
    assert response.stop_reason == 'final'
    assert 'crm called with' in out.getvalue()
    assert len(sink.events) > 6
    assert leaks(out.getvalue(), [event.facts for event in sink.events], caplog.text, capsys.readouterr()) == []


@both_ways
@modes
async def test_what_is_remembered_inside(mode: Any, streaming: bool) -> None:
    memory = Memory()
    response, _ = await run(
        [PIIRedaction(mode=mode, **OPTIONS), memory], [asks('crm'), echoes], streaming, [crm], CollectingSink()
    )
    assert response.stop_reason == 'final'
    assert len(memory.kept) == 6
    assert leaks(memory.kept) == []


@both_ways
async def test_between_two_masks_not_even_what_the_model_brings_is_remembered(streaming: bool) -> None:
    memory = Memory()
    use = [PIIRedaction(mode='tokenize', **OPTIONS), memory, PIIRedaction(**OPTIONS)]
    await run(use, [f'By the way: {ALL}'], streaming, [], CollectingSink())
    assert leaks(memory.kept) == []


@both_ways
async def test_answers_that_are_remembered_outside_are_masked_and_requests_are_not(streaming: bool) -> None:
    """Which is why whatever remembers belongs inside."""
    memory = Memory()
    await run([memory, PIIRedaction(**OPTIONS)], [f'By the way: {ALL}'], streaming, [], CollectingSink())
    request, response = memory.kept
    assert leaks(request) == SECRETS
    assert leaks(response) == []


@both_ways
@modes
async def test_what_a_cache_keeps_on_disk(mode: Any, streaming: bool, tmp_path: Path) -> None:
    file, sink = tmp_path / 'kept.db', CollectingSink()
    ai = Lamella(model=ScriptedModel([echoes]), store=f'sqlite:///{file}', sinks=[sink])
    use = [PIIRedaction(mode=mode, **OPTIONS), Cache(max_temperature=None)]
    options: dict[str, Any] = {'prompt': f'I am {ALL}', 'use': use}
    response = await (ai.generate_stream(**options).response if streaming else ai.generate(**options))
    await ai.aclose()
    assert sink.named('cache.stored')
    kept = b''.join(path.read_bytes() for path in tmp_path.iterdir())
    assert b'I am ' in kept
    assert [secret for secret in SECRETS if secret.encode() in kept] == []
    assert (leaks(response.text) == SECRETS) is (mode == 'tokenize')


def test_the_order_that_keeps_secrets_is_the_one_that_no_rule_objects_to() -> None:
    redaction, cache, log = PIIRedaction(), Cache(), ConsoleLogger()
    assert findings([log, redaction, cache, Retry()]) == ()
    (found,) = findings([cache, redaction])[:1]
    assert 'should rather stand' in found.message


@both_ways
@modes
async def test_the_model_and_what_it_is_asked_later(mode: Any, streaming: bool) -> None:
    model = ScriptedModel([asks('crm'), echoes])
    ai = Lamella(model=model)
    options: dict[str, Any] = {
        'prompt': f'I am {ALL}',
        'system': ALL,
        'use': [PIIRedaction(mode=mode, **OPTIONS)],
        'tools': [crm],
    }
    response = await (ai.generate_stream(**options).response if streaming else ai.generate(**options))
    assert leaks(model.requests) == []
    assert (leaks(response.text) == SECRETS) is (mode == 'tokenize')


@both_ways
async def test_the_reader_of_a_masked_run(streaming: bool) -> None:
    response, parts = await run(
        [PIIRedaction(**OPTIONS)], [asks('crm'), f'So: {ALL}'], streaming, [crm], CollectingSink()
    )
    assert leaks(parts, response.turns, response.metadata) == []


@both_ways
@modes
async def test_errors_of_models_through_retries_and_fallbacks(mode: Any, streaming: bool) -> None:
    sink, memory = CollectingSink(), Memory()
    use = [
        Fallback(models=['x/other']),
        Retry(max_retries=1, no_jitter=True),
        PIIRedaction(mode=mode, **OPTIONS),
        memory,
    ]
    ai = Lamella(model=ScriptedModel([down] * 9), sinks=[sink], clock=FakeClock())
    ai.registry.add_model('x/other', ScriptedModel([down] * 9, name='x/other'))
    options: dict[str, Any] = {'prompt': f'I am {ALL}', 'use': use}
    with pytest.raises(LamellaError) as caught:
        await (ai.generate_stream(**options).response if streaming else ai.generate(**options))
    error = caught.value
    shown = ''.join(traceback.format_exception(error))
    assert leaks(shown, error, error.details, error.partial, error.attempts, error.__cause__) == []
    assert leaks([event.facts for event in sink.events]) == []
    assert error.partial is not None
    assert '[EMAIL]' in error.partial.text


@both_ways
@modes
async def test_errors_of_tools(mode: Any, streaming: bool) -> None:
    sink, memory = CollectingSink(), Memory()
    error, _ = await run([PIIRedaction(mode=mode, **OPTIONS), memory], [asks('broken')], streaming, [broken], sink)
    assert isinstance(error, ValueError)
    assert str(error).startswith('no row for [EMAIL], [PHONE], [CARD], [US_SSN]')
    assert leaks(''.join(traceback.format_exception(error)), error, memory.kept[:2]) == []
    assert leaks([(event.facts, str(event.facts.get('error'))) for event in sink.events]) == []


def stubborn(query: str) -> str:
    """Fails in a way that nobody can change."""
    return str(TypeAdapter(int).validate_python(ALL))


def chained(query: str) -> str:
    """Fails while it handles another failure."""
    try:
        return broken(query)
    except ValueError:
        raise LookupError('gone')  # noqa: B904 - the first one is the context


@both_ways
@modes
@pytest.mark.parametrize('tool', [stubborn, chained])
async def test_nothing_hangs_on_to_an_error_that_leaves(mode: Any, streaming: bool, tool: Any) -> None:
    memory = Memory()
    error, _ = await run(
        [PIIRedaction(mode=mode, **OPTIONS), memory], [asks(tool.__name__)], streaming, [tool], CollectingSink()
    )
    one: BaseException | None = error
    while one is not None:
        assert leaks(str(one), repr(one), one.args) == []
        one = one.__cause__ or one.__context__
    assert leaks(memory.kept) == []


async def test_an_error_that_cannot_be_looked_through_is_replaced() -> None:
    layer = PIIRedaction(**OPTIONS)

    def breaks(request: Any) -> LamellaError:
        class Broken:
            entities, longest, needs_sign = ('x',), 1, False

            def find(self, text: str, start: int, final: bool) -> Any:
                raise RuntimeError(text)

        layer._masker.recognisers.finders = (Broken(),)
        return down(request)

    error, _ = await run([layer], [breaks], False, [], CollectingSink())
    assert isinstance(error, Rejected)
    assert (leaks(str(error), error.attempts), error.__cause__, error.__context__) == ([], None, None)


async def test_a_listener_that_comes_later_hears_masks_too() -> None:
    heard = CollectingSink()

    class Late(BaseMiddleware):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
            ctx.sinks = (*ctx.sinks, heard)
            return await next_fn(params, ctx)

    await run([Late(), PIIRedaction(**OPTIONS)], [echoes], False, [], CollectingSink())
    assert heard.named('run.end')
    assert leaks([event.facts for event in heard.events]) == []


async def test_fixed_on_a_model_events_are_masked_from_its_first_call_on() -> None:
    sink = CollectingSink()
    fixed = wrap_language_model(model=ScriptedModel([echoes]), middleware=PIIRedaction(**OPTIONS))
    await Lamella(model=fixed, sinks=[sink]).generate(prompt=f'I am {ALL}')
    assert leaks([event.facts for event in sink.events if event.name != 'model.start']) == []


def test_the_layer_and_what_it_knows_of_a_run_show_nothing() -> None:
    layer = PIIRedaction(mode='tokenize', allow=['x@y.zz'], **OPTIONS)
    assert leaks(repr(layer), str(layer.config)) == []


async def test_messages_of_the_caller_stay_the_callers_own() -> None:
    """They were his before, and a conversation goes on from them; whoever wants masked histories masks what is stored."""
    response, _ = await run([PIIRedaction(**OPTIONS)], ['ok'], False, [], CollectingSink())
    assert response.messages[0] == Message.user(f'I am {ALL}')
