"""Google's own SDK talks to a server made of the codec, over HTTP: what it sends is understood, what it hears too."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from lamella.types import (
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    OutputSpec,
    ReasoningPart,
    Source,
    ToolChoice,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    Usage,
    unfold,
)
from lamella.wire.codec import Decoded
from lamella.wire.gemini import GeminiCodec

genai = pytest.importorskip('google.genai')
types = genai.types
# The SDK itself does what aiohttp discourages.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings('ignore:Inheritance class:DeprecationWarning')]

CODEC = GeminiCodec()
ANSWER = ModelResponse(
    message=Message.assistant(
        ReasoningPart('Hm.'),
        'Hello ',
        MediaPart(data=b'\x89PNG', content_type='image/png'),
        ToolRequestPart(ToolRequest('look', {'at': 'a'}, 'c1'), {'gemini': {'thoughtSignature': 'QUFB'}}),
    ),
    finish_reason='tool_calls',
    usage=Usage(1, 5, 6, reasoning_tokens=2),
    sources=(Source('https://a', 'A'),),
    id='r1',
)


class Server:
    """Answers everything alike, or fails when asked to; remembers what it understood."""

    def __init__(self) -> None:
        self.heard: list[Decoded] = []
        self.url = ''

    @property
    def request(self) -> ModelRequest:
        return self.heard[-1].request

    async def handle(self, request: web.Request) -> web.StreamResponse:
        model, _, verb = request.match_info['name'].rpartition(':')
        heard = CODEC.decode_request(await request.read(), model=model, stream=verb == 'streamGenerateContent')
        self.heard.append(heard)
        if heard.request.messages[-1].text == 'fail':
            said = CODEC.encode_error(LamellaError('RESOURCE_EXHAUSTED', 'Slow down.', retry_after_s=3))
            return web.Response(status=said.status, headers=said.headers, body=said.body)
        if not heard.stream:
            body = CODEC.encode_response(ANSWER, model=heard.model)
            return web.Response(body=body, content_type='application/json')
        response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
        await response.prepare(request)
        encoder = CODEC.stream_encoder(model=heard.model)
        for part in unfold(ANSWER):
            await response.write(encoder.feed(part))
        await response.write(encoder.finish())
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    ours = Server()
    app = web.Application()
    app.router.add_post('/{version}/models/{name}', ours.handle)
    async with TestServer(app) as running:
        ours.url = str(running.make_url('/'))
        yield ours


@pytest.fixture
async def models(server: Server) -> AsyncIterator[Any]:
    client = genai.Client(api_key='k', http_options=types.HttpOptions(base_url=server.url)).aio
    yield client.models
    await client.aclose()


async def test_all_that_the_sdk_sends_is_understood(server: Server, models: Any) -> None:
    schema = types.Schema(type='OBJECT', properties={'at': types.Schema(type='STRING', nullable=True)})
    look = types.FunctionDeclaration(name='look', description='Looks.', parameters=schema)
    await models.generate_content(
        model='gemini-3-flash',
        contents=[
            types.Content(
                role='user',
                parts=[types.Part(text='hi'), types.Part.from_bytes(data=b'\xff\xfe', mime_type='image/png')],
            ),
            types.Content(
                role='model',
                parts=[
                    types.Part(
                        function_call=types.FunctionCall(name='look', args={'at': 'a'}, id='c1'),
                        thought_signature=b'\xff\xfe\xfd',
                    )
                ],
            ),
            types.Content(
                role='user',
                parts=[
                    types.Part(
                        function_response=types.FunctionResponse(name='look', id='c1', response={'output': 'cat'})
                    )
                ],
            ),
        ],
        config=types.GenerateContentConfig(
            system_instruction='Be brief.',
            temperature=0.5,
            top_k=3,
            stop_sequences=['END'],
            tools=[types.Tool(function_declarations=[look]), types.Tool(google_search=types.GoogleSearch())],
            tool_config=types.ToolConfig(
                function_calling_config=types.FunctionCallingConfig(mode='ANY', allowed_function_names=['look'])
            ),
            thinking_config=types.ThinkingConfig(thinking_level='LOW', include_thoughts=True),
            response_mime_type='application/json',
            response_json_schema={'type': 'object'},
            safety_settings=[types.SafetySetting(category='HARM_CATEGORY_HARASSMENT', threshold='OFF')],
        ),
    )

    assert server.heard[-1].model == 'gemini-3-flash'
    system, user, call, answer = server.request.messages
    assert system == Message.system('Be brief.')
    assert user.content[1] == MediaPart(data=b'\xff\xfe', content_type='image/png')
    assert call.content == (
        ToolRequestPart(
            ToolRequest('look', {'at': 'a'}, 'c1'),
            {'gemini': {'thoughtSignature': '__79', 'functionCall': {'id': 'c1'}}},
        ),
    )
    assert answer == Message.tool(ToolResponse('look', 'cat', 'c1'))
    assert server.request.config == GenerationConfig(
        temperature=0.5, top_k=3, stop_sequences=('END',), reasoning_effort='low'
    )
    assert server.request.output == OutputSpec('json', {'type': 'object'})
    assert server.request.tool_choice == ToolChoice('tool', 'look')
    assert server.request.tools[0].input_schema == {
        'type': 'object',
        'properties': {'at': {'type': ['string', 'null']}},
    }
    assert server.request.provider_options['google'] == {
        'tools': [{'googleSearch': {}}],
        'generationConfig': {'thinkingConfig': {'includeThoughts': True}},
        'safetySettings': [{'category': 'HARM_CATEGORY_HARASSMENT', 'threshold': 'OFF'}],
    }


async def test_the_sdk_understands_a_whole_answer(models: Any) -> None:
    response = await models.generate_content(model='gemini-3-flash', contents='hi')

    thought, text, picture, call = response.candidates[0].content.parts
    assert (thought.text, thought.thought, text.text) == ('Hm.', True, 'Hello ')
    assert picture.inline_data.data == b'\x89PNG'
    assert (call.function_call.name, call.function_call.args, call.function_call.id) == ('look', {'at': 'a'}, 'c1')
    assert call.thought_signature == b'AAA'
    assert response.candidates[0].finish_reason == types.FinishReason.STOP
    assert response.candidates[0].grounding_metadata.grounding_chunks[0].web.uri == 'https://a'
    usage = response.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count) == (1, 3, 2)
    assert (response.response_id, response.model_version) == ('r1', 'gemini-3-flash')


async def test_the_sdk_understands_a_stream(server: Server, models: Any) -> None:
    chunks = [chunk async for chunk in await models.generate_content_stream(model='gemini-3-flash', contents='hi')]

    assert server.heard[-1].stream
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert [part.text for part in parts if part.text and not part.thought] == ['Hello ']
    assert [part.thought_signature for part in parts if part.function_call] == [b'AAA']
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.total_token_count == 6


async def test_the_sdk_understands_an_error(models: Any) -> None:
    with pytest.raises(genai.errors.ClientError) as caught:
        await models.generate_content(model='gemini-3-flash', contents='fail')

    assert (caught.value.code, caught.value.status, caught.value.message) == (429, 'RESOURCE_EXHAUSTED', 'Slow down.')
