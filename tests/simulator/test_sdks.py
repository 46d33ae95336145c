"""The vendors' own clients take the simulator for the vendor."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from lamella.simulator import Fault, Simulator

# google-genai's own way with aiohttp.
pytestmark = pytest.mark.filterwarnings('ignore:Inheritance class AiohttpClientSession:DeprecationWarning')

PROMPT = 'I love bees. They make honey.'
QUESTION = 'What is the weather in Paris?'
SCHEMA = {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']}


class Review(BaseModel):
    sentiment: str
    keywords: list[str]


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def gpt(sim: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f'{sim.base_url}/v1', api_key='k', max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(sim: Simulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=sim.base_url, api_key='k', max_retries=0) as client:
        yield client


@pytest.fixture
async def gemini(sim: Simulator) -> AsyncIterator[Any]:
    async with genai.Client(api_key='k', http_options=types.HttpOptions(base_url=sim.base_url)).aio as client:
        yield client


async def test_openai_answers_streams_and_parses(gpt: openai.AsyncOpenAI) -> None:
    messages: Any = [{'role': 'user', 'content': PROMPT}]
    whole = await gpt.chat.completions.create(model='gpt-x', messages=messages)
    stream = await gpt.chat.completions.create(model='gpt-x', messages=messages, stream=True)
    text = ''.join([chunk.choices[0].delta.content or '' async for chunk in stream])
    assert text == whole.choices[0].message.content
    parsed = await gpt.chat.completions.parse(model='gpt-x', messages=messages, response_format=Review)
    assert parsed.choices[0].message.parsed == Review(sentiment='positive', keywords=['love', 'bees', 'honey'])


async def test_openai_responses_answer_stream_parse_and_call_tools(gpt: openai.AsyncOpenAI) -> None:
    whole = await gpt.responses.create(model='gpt-x', input=PROMPT)
    async with gpt.responses.stream(model='gpt-x', input=PROMPT) as stream:
        streamed = await stream.get_final_response()
    assert streamed.output_text == whole.output_text
    parsed = await gpt.responses.parse(model='gpt-x', input=PROMPT, text_format=Review)
    assert parsed.output_parsed == Review(sentiment='positive', keywords=['love', 'bees', 'honey'])
    tools: Any = [{'type': 'function', 'name': 'get_weather', 'parameters': SCHEMA, 'strict': False}]
    called = (await gpt.responses.create(model='gpt-x', input=QUESTION, tools=tools)).output[0]
    assert called.type == 'function_call'
    assert called.arguments == '{"city":"Paris"}'
    result = {'type': 'function_call_output', 'call_id': called.call_id, 'output': 'sunny'}
    asked: Any = [{'role': 'user', 'content': QUESTION}, called.model_dump(exclude_none=True), result]
    told = await gpt.responses.create(model='gpt-x', input=asked, tools=tools)
    assert told.output_text.endswith('get_weather answered: sunny')


async def test_openai_lists_models(gpt: openai.AsyncOpenAI) -> None:
    await gpt.chat.completions.create(model='gpt-x', messages=[{'role': 'user', 'content': PROMPT}])
    assert [model.id async for model in gpt.models.list()] == ['lamella-simulator', 'gpt-x']
    assert (await gpt.models.retrieve('org/any')).id == 'org/any'


async def test_openai_raises_its_own_errors(sim: Simulator, gpt: openai.AsyncOpenAI) -> None:
    sim.use(faults=[Fault('status', status=429, retry_after_s=3)])
    with pytest.raises(openai.RateLimitError) as caught:
        await gpt.chat.completions.create(model='gpt-x', messages=[{'role': 'user', 'content': PROMPT}])
    assert caught.value.response.headers['retry-after'] == '3'


async def test_anthropic_answers_and_streams(claude: anthropic.AsyncAnthropic) -> None:
    asked: Any = {'model': 'claude-x', 'max_tokens': 200, 'messages': [{'role': 'user', 'content': PROMPT}]}
    whole = await claude.messages.create(**asked)
    async with claude.messages.stream(**asked) as stream:
        streamed = await stream.get_final_message()
    assert whole.content[0].text == streamed.content[0].text  # type: ignore[union-attr]
    assert whole.usage.output_tokens == streamed.usage.output_tokens > 0


async def test_anthropic_calls_tools_and_counts(claude: anthropic.AsyncAnthropic) -> None:
    messages: Any = [{'role': 'user', 'content': QUESTION}]
    tools: Any = [{'name': 'get_weather', 'input_schema': SCHEMA}]
    async with claude.messages.stream(model='c', max_tokens=99, messages=messages, tools=tools) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason == 'tool_use'
    assert message.content[0].input == {'city': 'Paris'}  # type: ignore[union-attr]
    counted = await claude.messages.count_tokens(model='c', messages=messages, tools=tools)
    assert counted.input_tokens == message.usage.input_tokens
    assert [model.id async for model in claude.models.list()] == ['lamella-simulator', 'c']


async def test_anthropic_raises_its_own_errors(sim: Simulator, claude: anthropic.AsyncAnthropic) -> None:
    sim.use(faults=[Fault('status', status=529)])
    with pytest.raises(anthropic.InternalServerError) as caught:
        await claude.messages.create(model='c', max_tokens=1, messages=[{'role': 'user', 'content': 'x'}])
    assert caught.value.status_code == 529


async def test_gemini_answers_streams_and_parses(gemini: Any) -> None:
    whole = await gemini.models.generate_content(model='gemini-x', contents=PROMPT)
    stream = await gemini.models.generate_content_stream(model='gemini-x', contents=PROMPT)
    assert ''.join([chunk.text or '' async for chunk in stream]) == whole.text
    config = types.GenerateContentConfig(response_mime_type='application/json', response_schema=Review)
    parsed = await gemini.models.generate_content(model='gemini-x', contents=PROMPT, config=config)
    assert parsed.parsed == Review(sentiment='positive', keywords=['love', 'bees', 'honey'])


async def test_gemini_calls_tools_counts_and_lists(gemini: Any) -> None:
    weather = types.FunctionDeclaration(name='get_weather', parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[weather])])
    answered = await gemini.models.generate_content(model='gemini-x', contents=QUESTION, config=config)
    assert [(call.name, call.args) for call in answered.function_calls] == [('get_weather', {'city': 'Paris'})]
    whole = await gemini.models.generate_content(model='gemini-x', contents=PROMPT)
    counted = await gemini.models.count_tokens(model='gemini-x', contents=PROMPT)
    assert counted.total_tokens == whole.usage_metadata.prompt_token_count
    listed = [model.name async for model in await gemini.models.list()]
    assert listed[0] == 'models/lamella-simulator'


async def test_gemini_raises_its_own_errors(sim: Simulator, gemini: Any) -> None:
    sim.use(faults=[Fault('status', status=503)])
    with pytest.raises(errors.ServerError) as caught:
        await gemini.models.generate_content(model='gemini-x', contents=PROMPT)
    assert caught.value.code == 503
