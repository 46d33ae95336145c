"""What a vendor said reaches its client as it was said, until a layer changes it."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from aiohttp import web

from lamella.integrations.httpx2 import LamellaTransport
from lamella.integrations.httpx2.verbatim import Speaker, Tape
from lamella.middleware import BaseMiddleware, Fallback, Retry
from lamella.types import Finished, ModelResponse, ResponseStarted, StreamPart, TextDelta, TextPart, Usage, fold
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.sse import Event, SSEDecoder
from tests.integrations.clients import clients, served
from tests.wire import anthropic_events, openai_chat_answers, openai_responses_events
from tests.wire.recorded_streams import ANTHROPIC, CHAT, GEMINI, RESPONSES, STREAMS, Recorded, body_of
from tests.wire.test_gemini_stream import EXAMPLE

LAYERS = [Retry(max_retries=2, initial_delay_ms=0), Fallback(models=['openai/other'])]
HEADERS = {'anthropic-version': '2023-06-01'}
streams = pytest.mark.parametrize('stream', [pytest.param(stream, id=stream.name) for stream in STREAMS])


def answering(body: bytes, content_type: str = 'text/event-stream', **headers: str) -> Callable[..., Any]:
    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(body=body, headers={'content-type': content_type, **headers})

    return handle


async def through(path: str, asked: Any, body: bytes, *layers: Any, **options: Any) -> httpx2.Response:
    """The answer of a server that says `body`, through the transport."""
    async with (
        served(answering(body, **options)) as url,
        clients(url, LamellaTransport(use=[*layers])) as made,
    ):
        answer: httpx2.Response = await made.http.post(url + path, json=asked, headers=HEADERS)
        return answer


@streams
async def test_a_recorded_stream_passes_event_by_event(stream: Recorded) -> None:
    answer = await through(stream.protocol.path, stream.protocol.asked, stream.body, *LAYERS)
    assert answer.status_code == 200
    assert SSEDecoder().feed(answer.content) == SSEDecoder().feed(stream.body)


WHOLE = [
    pytest.param(CHAT.path, openai_chat_answers.whole('parallel tool calls'), id='chat'),
    pytest.param('/v1/messages', anthropic_events.message('server tools'), id='anthropic'),
    pytest.param('/v1/responses', openai_responses_events.ANSWERS['new fields'], id='responses'),
    pytest.param('/v1beta/models/m:generateContent', EXAMPLE[3] | {'newField': [1]}, id='gemini'),
]


@pytest.mark.parametrize(('path', 'said'), WHOLE)
async def test_a_whole_answer_passes_byte_by_byte_with_its_headers(path: str, said: Any) -> None:
    body = json.dumps({**said, 'brand_new': {'a': [1, None]}}, indent=3).encode()
    asked = {
        key: value for key, value in {**ANTHROPIC.asked, **RESPONSES.asked, **GEMINI.asked}.items() if key != 'stream'
    }
    headers = {'x-request-id': 'req_1', 'x-ratelimit-remaining-tokens': '7'}
    answer = await through(path, asked, body, *LAYERS, content_type='application/json', **headers)
    assert answer.content == body
    assert {name: answer.headers[name] for name in headers} == headers


class Shouting(BaseMiddleware[Any]):
    """Changes what the model says, from the nth piece on."""

    def __init__(self, after: int = 0) -> None:
        self.after = after

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        response = await next_fn(params, ctx)
        content = [TextPart(p.text.upper()) if isinstance(p, TextPart) else p for p in response.message.content]
        return response.replace(message=response.message.replace(content=tuple(content)))

    async def wrap_stream(self, params: Any, ctx: Any, next_fn: Any) -> AsyncIterator[StreamPart]:
        seen = 0
        async for part in next_fn(params, ctx):
            if isinstance(part, TextDelta):
                seen += 1
                yield part.replace(text=part.text.upper()) if seen > self.after else part
            else:
                yield part


@pytest.mark.parametrize('after', [0, 1, 3])
@streams
async def test_a_change_in_the_middle_is_heard_and_the_rest_still_makes_sense(stream: Recorded, after: int) -> None:
    answer = await through(stream.protocol.path, stream.protocol.asked, stream.body, Shouting(after))
    came, heard = stream.protocol.parts([stream.body]), fold(stream.protocol.parts([answer.content]))
    texts = [part.text for part in came if isinstance(part, TextDelta)]
    assert heard.text == ''.join([*texts[:after], *[text.upper() for text in texts[after:]]])
    said = fold(came)
    assert calls(heard) == calls(said)
    assert (heard.usage, heard.id, heard.reasoning) == (said.usage, said.id, said.reasoning)
    assert heard.finish_reason == said.finish_reason or said.finish_reason == 'other'  # a word that only one server has


def calls(response: ModelResponse) -> list[Any]:
    return [(part.tool_request.name, part.tool_request.input) for part in response.tool_requests]


async def test_a_change_of_a_whole_answer_keeps_its_other_fields_and_headers() -> None:
    said = {**openai_chat_answers.whole('text'), 'brand_new': 1}
    asked = {'model': 'm', 'messages': CHAT.asked['messages']}
    body = json.dumps(said).encode()
    answer = await through(CHAT.path, asked, body, Shouting(), content_type='application/json', **{'x-request-id': 'r'})
    changed = answer.json()
    assert changed['choices'][0]['message']['content'] == 'HELLO'
    assert {name: changed[name] for name in ('id', 'model', 'system_fingerprint', 'service_tier', 'brand_new')} == {
        name: said[name] for name in ('id', 'model', 'system_fingerprint', 'service_tier', 'brand_new')
    }
    assert answer.headers['x-request-id'] == 'r'


class Noting(BaseMiddleware[Any]):
    """Adds a note to the answer, which the client cannot be told."""

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        response = await next_fn(params, ctx)
        return response.replace(metadata={**response.metadata, 'note': 'seen'})


async def test_notes_of_layers_change_nothing_that_the_client_sees() -> None:
    events = openai_chat_answers.events('parallel tool calls')
    streamed = await through(CHAT.path, CHAT.asked, body_of(events), Noting())
    assert SSEDecoder().feed(streamed.content) == events
    body = json.dumps(openai_chat_answers.whole('text')).encode()
    whole = await through(CHAT.path, {**CHAT.asked, 'stream': False}, body, Noting(), content_type='application/json')
    assert whole.content == body


async def test_several_choices_pass_though_lamella_reads_only_the_first() -> None:
    said = openai_chat_answers.whole('text')
    second = {**said['choices'][0], 'index': 1, 'message': {'role': 'assistant', 'content': 'Or this.'}}
    body = json.dumps({**said, 'choices': [*said['choices'], second]}).encode()
    asked = {**CHAT.asked, 'stream': False, 'n': 2}
    assert (await through(CHAT.path, asked, body, *LAYERS, content_type='application/json')).content == body
    other = {**openai_chat_answers.HEAD, 'choices': [{'index': 1, 'delta': {'content': 'Or'}, 'finish_reason': None}]}
    events = openai_chat_answers.events('text')
    events.insert(2, Event(data=json.dumps(other)))
    answer = await through(CHAT.path, {**CHAT.asked, 'n': 2}, body_of(events), *LAYERS)
    assert SSEDecoder().feed(answer.content) == events


async def test_ids_that_the_engine_gives_to_tool_requests_stay_inside() -> None:
    """Gemini names no ids, and Vertex AI refuses those that it does not know."""
    whole = {**EXAMPLE[3], 'candidates': [{**EXAMPLE[3]['candidates'][0], 'finishReason': 'STOP'}]}
    body = json.dumps(whole).encode()
    path = '/v1beta/models/m:generateContent'
    assert (await through(path, GEMINI.asked, body, Noting(), content_type='application/json')).content == body


# ── the tape itself ─────────────────────────────────────────────────────────────────────────────────────────────────


def tape_of(*entries: tuple[str, list[StreamPart]]) -> Tape:
    tape = Tape()
    for data, parts in entries:
        tape.add(Event(data=data), parts)
    return tape


def line(data: str) -> bytes:
    return f'data: {data}\n\n'.encode()


ONE, TWO, THREE = TextDelta('one'), TextDelta('two'), TextDelta('three')


def test_events_without_parts_go_with_the_next_that_has_one() -> None:
    tape = tape_of(('a', []), ('b', [ONE]), ('c', []), ('d', [TWO]), ('e', []))
    assert [tape.take(ONE), tape.take(TWO)] == [line('a') + line('b'), line('c') + line('d')]
    assert tape.rest() == line('e')


def test_an_event_of_several_parts_waits_for_its_last() -> None:
    tape = tape_of(('a', []), ('b', [ONE, TWO]))
    assert [tape.take(ONE), tape.is_between, tape.take(TWO), tape.is_between] == [
        b'',
        False,
        line('a') + line('b'),
        True,
    ]


def test_what_is_kept_is_only_what_is_on_its_way() -> None:
    tape = Tape()
    for _ in range(1000):
        tape.add(Event(data='x'), [ONE])
        assert tape.take(ONE) == line('x')
    assert len(tape._events) == 0


def test_after_a_change_nothing_is_kept_any_more() -> None:
    tape = tape_of(('a', [ONE]), ('b', [TWO]))
    assert tape.take(THREE) is None
    tape.add(Event(data='c'), [ONE])
    assert len(tape._events) == 0
    assert tape.take(ONE) is None


def test_a_change_within_an_event_loses_nothing_of_it() -> None:
    """The event says two things; the first passed unchanged and was held back until the second, which a layer changed."""
    encoder = OpenAIChatCodec().stream_encoder(model='m')
    speaker = Speaker(encoder, tape_of(('a', [ResponseStarted('m', 'i')]), ('b', [ONE, TWO])))
    spoken = [speaker.say(part) for part in (ResponseStarted('m', 'i'), ONE, THREE, Finished())]
    assert spoken[0] == line('a')
    assert spoken[1] == b''
    heard = fold(CHAT.parts([*spoken[2:], speaker.finish()]))
    assert heard.text == 'onethree'


def test_an_end_with_another_usage_is_said_anew() -> None:
    encoder = OpenAIChatCodec().stream_encoder(model='m')
    ending = Finished(usage=Usage(1, 2, 3))
    speaker = Speaker(encoder, tape_of(('a', [ResponseStarted('m', 'i'), ONE]), ('b', [ending]), ('[DONE]', [])))
    speaker.say(ResponseStarted('m', 'i'))
    assert speaker.say(ONE) == line('a')
    speaker.say(ending.replace(usage=Usage(10, 20, 30)))
    assert b'"total_tokens":30' in speaker.finish()
    assert not speaker.is_verbatim


class Costing(BaseMiddleware[Any]):
    """Adds what an earlier attempt cost, as `Retry` does. The transport is told that it hands parts on."""

    async def wrap_stream(self, params: Any, ctx: Any, next_fn: Any) -> AsyncIterator[StreamPart]:
        async for part in next_fn(params, ctx):
            yield part.replace(usage=Usage(1000, 1000, 2000)) if isinstance(part, Finished) else part


@streams
async def test_another_usage_at_the_end_leaves_the_rest_as_it_was_said(
    stream: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('lamella.integrations.httpx2.transport.hands_on_parts', lambda layer: True)
    answer = await through(stream.protocol.path, stream.protocol.asked, stream.body, Costing())
    came, heard = fold(stream.protocol.parts([stream.body])), fold(stream.protocol.parts([answer.content]))
    assert heard.usage is not None
    assert heard.usage.output_tokens in (1000, 1002)  # Gemini counts thoughts apart
    assert (heard.text, calls(heard), heard.reasoning) == (came.text, calls(came), came.reasoning)
    closed = [json.loads(event.data) for event in SSEDecoder().feed(answer.content) if event.event in CLOSING]
    places = [(event['type'], event.get('output_index', event.get('index'))) for event in closed]
    assert len(places) == len(set(places))


CLOSING = ('content_block_stop', 'response.output_item.done', 'message_stop', 'response.completed')
