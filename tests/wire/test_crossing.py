"""Requests that were received in one protocol and are sent in another: always possible, and nothing is lost in silence."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.types import (
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    OutputSpec,
    Part,
    ReasoningPart,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from lamella.wire import crossing
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.codec import Codec, Encoded
from lamella.wire.gemini import GeminiCodec
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.openai_responses import OpenAIResponsesCodec
from tests.wire.recorded_requests import PNG, RECORDED

CODECS: dict[str, Codec] = {
    codec.name: codec for codec in (OpenAIChatCodec(), OpenAIResponsesCodec(), AnthropicCodec(), GeminiCodec())
}
PAIRS = [(ours, theirs) for ours in CODECS for theirs in CODECS if ours != theirs]
MODELS = {
    'openai-chat': 'gpt-x',
    'openai-responses': 'gpt-x',
    'anthropic': 'claude-sonnet-4-5',
    'gemini': 'gemini-3-flash',
}
crossings = pytest.mark.parametrize(('ours', 'theirs'), PAIRS, ids=[f'{ours}-to-{theirs}' for ours, theirs in PAIRS])

# How a protocol is built, and ids that mean something to one server only.
STRUCTURE = frozenset(
    (
        'type', 'role', 'mode', 'status', 'language', 'outcome', 'id', 'call_id', 'tool_call_id', 'tool_use_id', 'model',
        'format', 'media_type', 'mimeType', 'responseMimeType', 'tool_choice', 'ttl',
    )
)  # fmt: skip
# What must be said of a value that is lost, where that is not the name of its field or of what holds it.
REASONING = ('reasoning', 'thinking')
BLOCK = ('DataPart', 'data part', 'data that is')
WORDS: dict[Any, tuple[str, ...]] = {
    'I shall look.': REASONING, 'gAAAAABsealed': REASONING, 'EuYBsigned': REASONING, 'EmwKhidden': REASONING,
    'file-abc123': BLOCK, 'tides': BLOCK, 'print(6 * 7)': BLOCK, 'forty-two': BLOCK, 'web_search': BLOCK,
    'medium': ('tools is',), 5: ('tools is',), 2: ('video',), 1: ('temperature', 'n is', 'candidateCount'),
    'alice': ('name of openai',), 'high': ('image_url.detail',), 'mood_of_day': ('output: the name',),
    'draconomicon.pdf': ("the name 'draconomicon.pdf'",), 'Dragons': ("the name 'Dragons'",),
    'get_tides': ("the tool's name 'get_tides'",), 'degrees': ('output_schema',),
    'UklGRiQAAABXQVZFZm10IBAAAAAB': ('audio/wav',), 'T2dnUwACAAAAAAAAAAA=': ('audio/ogg',),
    'https://example.com/v1beta/files/clip': ('video/mp4',), 'https://example.com/long.pdf': ('application/pdf',),
    'THE END': ('stop_sequences',), 'FINIS': ('stop_sequences',), 41: ('top_k',), 4711: ('seed',), 7: ('logprobs',),
    0.125: ('presence_penalty', 'presencePenalty'), 0.375: ('frequency_penalty', 'frequencyPenalty'),
}  # fmt: skip


def received(name: str, body: Any) -> ModelRequest:
    """The request as a server of that protocol hands it on."""
    model = 'gemini-x' if name == 'gemini' else None
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return crossing.received(CODECS[name].decode_request(data, model=model), CODECS[name])


def crossed(ours: str, theirs: str, body: Any) -> Encoded:
    return crossing.encode_request(CODECS[theirs], received(ours, body), MODELS[theirs])


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything that a body says, one by one, with where: also what stands in JSON text and in data URLs."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, path)
    elif isinstance(value, str) and value[:2] in ('{"', '[{'):
        yield from leaves(json.loads(value), path)
    elif isinstance(value, str):
        yield path, value.rpartition(';base64,')[2]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value


def said(body: Any) -> set[Any]:
    return {value for _, value in leaves(body)} | {key for path, _ in leaves(body) for key in path}


CONTAINERS = frozenset(('messages', 'contents', 'input', 'system', 'systemInstruction', 'tools', 'response_format'))


def words_for(path: tuple[str, ...], value: Any) -> tuple[str, ...]:
    """One of these must stand in a warning when the value is lost: the option, or the note, that it belongs to."""
    if value in WORDS:
        return WORDS[value]
    return (f'{path[-1]} of ', f'{path[-1]} is not') if path[0] in CONTAINERS else (path[0], '.'.join(path[:2]))


def silent_losses(ours: Any, encoded: Encoded) -> list[tuple[tuple[str, ...], Any]]:
    """What is neither in the new body nor named in a warning."""
    found, warned = said(json.loads(encoded.body)), ' '.join(encoded.warnings)
    return [
        (path, value)
        for path, value in leaves(ours)
        if value not in found
        and path[-1] not in STRUCTURE
        and not any(word in warned for word in words_for(path, value))
    ]


@crossings
def test_a_recorded_request_crosses_and_nothing_is_lost_in_silence(ours: str, theirs: str) -> None:
    assert silent_losses(RECORDED[ours], crossed(ours, theirs, RECORDED[ours])) == []


def test_the_oracle_sees_what_is_missing() -> None:
    """A body without the picture and without a word about it would not pass."""
    encoded = crossed('openai-chat', 'anthropic', RECORDED['openai-chat'])
    assert silent_losses(RECORDED['openai-chat'], Encoded(encoded.body.replace(PNG.encode(), b''), encoded.warnings))
    assert silent_losses(RECORDED['openai-chat'], Encoded(encoded.body))


# ── any request ─────────────────────────────────────────────────────────────────────────────────────────────────────

WORD = st.text('abcdefghijklmnopqrstuvwxyz', min_size=3, max_size=8)
# A text that stands nowhere else, with what JSON must escape.
ODD = st.sampled_from(['', '"quoted"', 'C:\\dir', 'tab\there', 'two\nlines', '你好 👋', '\u2028', '</script>'])
SENTENCES = st.builds(lambda word, odd: f'«{word}» {odd}.', WORD, ODD)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | SENTENCES, lambda inner: st.lists(inner, max_size=2)
)
OBJECTS = st.dictionaries(WORD, VALUES, max_size=3)
TYPES = {
    'openai-chat': ('image/png', 'application/pdf', 'audio/wav'),
    'openai-responses': ('image/png', 'application/pdf', 'audio/wav'),
    'anthropic': ('image/png', 'application/pdf'),
    'gemini': ('image/png', 'application/pdf', 'audio/ogg', 'video/mp4', 'text/csv', 'application/x-what'),
}


def media(ours: str) -> st.SearchStrategy[MediaPart]:
    data = st.binary(min_size=12, max_size=20)
    inline = st.builds(lambda kind, data: MediaPart(data=data, content_type=kind), st.sampled_from(TYPES[ours]), data)
    return inline | st.builds(
        lambda word: MediaPart(url=f'https://example.com/{word}.png', content_type='image/png'), WORD
    )


def texts(ours: str) -> st.SearchStrategy[TextPart]:
    """Some carry a field that only their own protocol has."""
    field, mark = {'anthropic': ('cache_control', 'anthropic'), 'gemini': ('partMetadata', 'gemini')}.get(
        ours, ('', '')
    )
    noted = st.builds(lambda text, note: TextPart(text, {mark: {field: {'note': note}}}), SENTENCES, WORD)
    return (noted if field else st.nothing()) | st.builds(TextPart, SENTENCES)


def answers(ours: str) -> st.SearchStrategy[Any]:
    parts = st.tuples(st.builds(TextPart, SENTENCES), media(ours)).map(list)
    return SENTENCES | OBJECTS | (st.nothing() if ours == 'openai-chat' else parts)


@st.composite
def conversations(draw: st.DrawFn, ours: str) -> tuple[Message, ...]:
    messages = [Message.system(draw(SENTENCES))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        asked = draw(st.lists(texts(ours) | media(ours), min_size=1, max_size=3))
        messages.append(Message('user', tuple(asked)))
        calls = [ToolRequest(draw(WORD), draw(OBJECTS), f'call_{turn}_{at}') for at in range(draw(st.integers(0, 2)))]
        thought: list[Part] = [thinking(ours, draw(SENTENCES), turn)] if draw(st.booleans()) else []
        spoken = [TextPart(text) for text in draw(st.lists(SENTENCES, min_size=0 if calls else 1, max_size=1))]
        messages.append(Message('assistant', (*thought, *spoken, *[ToolRequestPart(call) for call in calls])))
        answered = [ToolResponse(call.name, draw(answers(ours)), call.ref, draw(st.booleans())) for call in calls]
        if answered:
            messages.append(Message.tool(*answered))
    return (*messages, Message.user(draw(SENTENCES)))


def thinking(ours: str, text: str, turn: int) -> Part:
    """A thought as this protocol gives it back."""
    if ours == 'anthropic':
        return ReasoningPart(text, f'sig{turn}')
    if ours == 'openai-responses':
        return ReasoningPart(text, f'sealed{turn}', metadata={'openai-responses': {'id': f'rs_{turn}'}})
    return ReasoningPart(text, metadata={'gemini': {}}) if ours == 'gemini' else TextPart(text)


TOOLS = st.builds(
    ToolDefinition,
    WORD.map(lambda word: f'tool_{word}'),
    SENTENCES,
    st.builds(lambda word: {'type': 'object', 'properties': {word: {'type': 'string'}}}, WORD),
)
CONFIGS = st.builds(
    GenerationConfig,
    temperature=st.none() | st.sampled_from([0.0, 0.25, 1.0]),
    top_p=st.none() | st.just(0.75),
    top_k=st.none() | st.just(41),
    max_output_tokens=st.none() | st.just(3001),
    stop_sequences=st.sampled_from([(), ('FINIS',)]),
    seed=st.none() | st.just(4711),
    presence_penalty=st.none() | st.just(0.125),
    frequency_penalty=st.none() | st.just(0.375),
    reasoning_effort=st.none() | st.sampled_from(['low', 'medium', 'high']),
    parallel_tool_calls=st.none() | st.booleans(),
    logprobs=st.none() | st.just(7),
)
OPTIONS = {
    'openai-chat': st.dictionaries(st.sampled_from(['logit_bias', 'user', 'prediction', 'x_new']), OBJECTS, max_size=2),
    'openai-responses': st.dictionaries(st.sampled_from(['truncation', 'max_tool_calls', 'x_new']), WORD, max_size=2),
    'anthropic': st.dictionaries(st.sampled_from(['service_tier', 'container', 'x_new']), WORD, max_size=2),
    'gemini': st.dictionaries(st.sampled_from(['safetySettings', 'cachedContent', 'xNew']), WORD, max_size=2),
}


@st.composite
def requests(draw: st.DrawFn, ours: str) -> ModelRequest:
    tools = tuple({tool.name: tool for tool in draw(st.lists(TOOLS, max_size=2))}.values())
    schema = {'type': 'object', 'properties': {draw(WORD): {'type': 'string'}}, 'additionalProperties': False}
    choices = ['auto', 'none', 'required'] if tools else ['auto']
    return ModelRequest(
        draw(conversations(ours)),
        draw(CONFIGS),
        tools,
        draw(st.none() | st.sampled_from(choices).map(ToolChoice)),
        draw(st.none() | st.just(OutputSpec('json', schema))),
        {CODECS[ours].provider: draw(OPTIONS[ours])},
    )


SETTINGS = {
    'temperature': 'temperature', 'top_p': 'top_p', 'top_k': 'top_k', 'max_output_tokens': 'max', 'seed': 'seed',
    'presence_penalty': 'presence', 'frequency_penalty': 'frequency', 'logprobs': 'logprobs',
}  # fmt: skip


def expectations(request: ModelRequest) -> Iterator[tuple[str, list[Any], str]]:
    """What the request says: its name, the values of which one must be in the body, and else a word of a warning."""
    for message in request.messages:
        for part in message.content:
            yield from of_part(part)
    for name, word in SETTINGS.items():
        if (value := getattr(request.config, name)) is not None:
            yield name, [value], word
    for stop in request.config.stop_sequences:
        yield 'stop', [stop], 'stop'
    if (effort := request.config.reasoning_effort) is not None:
        yield 'effort', [effort, 'thinking', 'thinkingConfig', 'budget_tokens'], 'reasoning_effort'
    for tool in request.tools:
        yield 'tool', [tool.name], ''
        yield 'tool', [tool.description], ''
        yield from [('schema', [name], '') for name in tool.input_schema.get('properties', ())]
    if request.output is not None and request.output.schema is not None:
        yield from [('output', [name], 'output') for name in request.output.schema['properties']]


def of_part(part: Any) -> Iterator[tuple[str, list[Any], str]]:
    if isinstance(part, TextPart):
        yield 'text', [part.text], ''
        for fields in (part.metadata or {}).values():
            yield from [('note', [name], f'{name} of ') for name in fields]
    elif isinstance(part, ReasoningPart):
        yield 'thought', [part.text], 'reasoning' if part.text else ''
    elif isinstance(part, MediaPart):
        yield from of_media(part)
    elif isinstance(part, ToolRequestPart):
        yield 'call', [part.tool_request.name], ''
        yield from [('input', [leaf], '') for _, leaf in leaves(part.tool_request.input)]
    elif isinstance(part, ToolResponsePart):
        output = part.tool_response.output
        for item in output if isinstance(output, list) else [output]:
            yield from of_part(item) if is_part(item) else [('answer', [leaf], '') for _, leaf in leaves(item)]
    elif isinstance(part, dict):
        yield from of_part(msgspec.convert(part, Part))


def is_part(item: Any) -> bool:
    return isinstance(item, (TextPart, MediaPart)) or (isinstance(item, dict) and item.get('type') in ('text', 'media'))


def of_media(part: MediaPart) -> Iterator[tuple[str, list[Any], str]]:
    """Data as base64, or as the text that it is."""
    data = [] if part.data is None else [b64encode(part.data).decode(), part.data.decode('utf-8', 'replace')]
    yield 'media', [part.url, *data], part.content_type or 'media'


@crossings
@settings(max_examples=60)
@given(data=st.data())
def test_any_request_crosses_and_nothing_is_lost_in_silence(ours: str, theirs: str, data: st.DataObject) -> None:
    body = CODECS[ours].encode_request(data.draw(requests(ours)), MODELS[ours]).body
    request = received(ours, body)
    encoded = crossing.encode_request(CODECS[theirs], request, MODELS[theirs])
    found, warned = said(json.loads(encoded.body)), ' '.join(encoded.warnings)
    for name, values, word in expectations(request):
        assert found.intersection(values) or (word and (word in warned or 'thinking' in warned)), (
            name,
            values,
            encoded,
        )
    for option in request.provider_options.get(CODECS[ours].provider, ()):
        assert option in warned or CODECS[theirs].provider == CODECS[ours].provider


# ── one by one ──────────────────────────────────────────────────────────────────────────────────────────────────────

CHAT, RESPONSES, ANTHROPIC, GEMINI = CODECS.values()
SOUND = {'type': 'input_audio', 'input_audio': {'data': 'UklGRg==', 'format': 'wav'}}


def test_the_model_reads_that_something_is_missing_and_where() -> None:
    content = [{'type': 'text', 'text': 'Listen:'}, SOUND, {'type': 'text', 'text': 'Whose voice is it?'}]
    encoded = crossed('openai-chat', 'anthropic', {'model': 'm', 'messages': [{'role': 'user', 'content': content}]})
    blocks = json.loads(encoded.body)['messages'][0]['content']
    assert [block['text'] for block in blocks] == [
        'Listen:',
        '[A file of type audio/wav was left out here: anthropic cannot carry it.]',
        'Whose voice is it?',
    ]
    (warning,) = encoded.warnings
    assert warning.startswith("messages[0].content[1] is not sent: messages[0].content[1].content_type is 'audio/wav'")


def test_who_asks_a_provider_for_what_it_cannot_do_is_still_refused() -> None:
    request = ModelRequest((Message.user(MediaPart(data=b'RIFF', content_type='audio/wav')),))
    with pytest.raises(LamellaError, match='takes image'):
        crossing.encode_request(ANTHROPIC, request, 'claude-x')


@pytest.mark.parametrize('name', CODECS)
def test_within_its_own_protocol_a_request_is_what_its_codec_says(name: str) -> None:
    request = received(name, RECORDED[name])
    for stream in (False, True):
        encoded = crossing.encode_request(CODECS[name], request, MODELS[name], stream=stream)
        assert encoded == CODECS[name].encode_request(request, MODELS[name], stream=stream)


def test_a_second_provider_of_the_same_protocol_gets_no_options_of_the_first() -> None:
    groq = OpenAIChatCodec('groq')
    request = received('openai-chat', {'model': 'm', 'messages': [], 'user': 'u', 'logit_bias': {}})
    encoded = crossing.encode_request(groq, request, 'llama')
    assert json.loads(encoded.body) == {'model': 'llama', 'messages': []}
    assert [warning.partition(' ')[0] for warning in encoded.warnings] == ['user', 'logit_bias']


def test_what_only_the_responses_api_has_never_gets_into_chat_completions() -> None:
    body = json.loads(crossed('openai-responses', 'openai-chat', RECORDED['openai-responses']).body)
    assert not {'truncation', 'include', 'max_tool_calls', 'reasoning', 'text', 'input'} & body.keys()
    assert (body['verbosity'], body['service_tier'], body['store']) == ('low', 'flex', True)
    assert [tool['type'] for tool in body['tools']] == ['function']


def test_an_answer_that_answers_nothing_is_paired_with_nothing_else() -> None:
    asked = {'role': 'model', 'parts': [{'functionCall': {'name': 'f', 'args': {}}}]}
    answer = {'functionResponse': {'name': 'f', 'response': {'output': 'one'}}}
    stray = {'functionResponse': {'name': 'f', 'response': {'output': 'two'}}}
    body = {'contents': [asked, {'role': 'user', 'parts': [answer, stray]}]}
    messages = json.loads(crossed('gemini', 'openai-chat', body).body)['messages']
    ref = messages[0]['tool_calls'][0]['id']
    assert [message['tool_call_id'] == ref for message in messages[1:]] == [True, False]


def test_a_tool_request_in_a_users_mouth_is_named() -> None:
    body = {'contents': [{'role': 'user', 'parts': [{'functionCall': {'name': 'f', 'args': {}}}, {'text': 'hi'}]}]}
    for theirs in ('openai-chat', 'openai-responses'):
        encoded = crossed('gemini', theirs, body)
        assert b'[A tool request was left out here' in encoded.body
        assert any('messages[0].content[0] is not sent' in warning for warning in encoded.warnings)


def test_the_note_of_where_a_request_came_from_is_not_sent() -> None:
    for ours in CODECS:
        for theirs in CODECS.values():
            encoded = crossing.encode_request(theirs, received(ours, RECORDED[ours]), MODELS[theirs.name])
            assert b'received' not in encoded.body
