"""The vendors' own clients think with the simulator, over four turns with tools, and are refused when they forget."""

from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from lamella.simulator import Fault, Simulator
from lamella.simulator.thoughts import SELF
from tests.simulator.thinkers import ENCRYPTED, QUESTION, SCHEMA

# google-genai's own way with aiohttp.
pytestmark = pytest.mark.filterwarnings('ignore:Inheritance class AiohttpClientSession:DeprecationWarning')

PLACES = ['Paris', 'Rome', 'Oslo', 'Lima']
CLAUDE: Any = {
    'model': 'claude-x',
    'max_tokens': 2000,
    'thinking': {'type': 'adaptive'},
    'tools': [{'name': 'get_weather', 'input_schema': SCHEMA}],
}
GPT: Any = {
    'model': 'gpt-x',
    'store': False,
    'reasoning': {'effort': 'low', 'summary': 'auto'},
    'include': [ENCRYPTED],
    'tools': [{'type': 'function', 'name': 'get_weather', 'parameters': SCHEMA, 'strict': False}],
}
GEMINI = types.GenerateContentConfig(
    thinking_config=types.ThinkingConfig(include_thoughts=True),
    tools=[
        types.Tool(function_declarations=[types.FunctionDeclaration(name='get_weather', parameters_json_schema=SCHEMA)])
    ],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)


async def claude_says(client: anthropic.AsyncAnthropic, messages: list[Any], *, stream: bool) -> Any:
    if not stream:
        return await client.messages.create(**CLAUDE, messages=messages)
    async with client.messages.stream(**CLAUDE, messages=messages) as streamed:
        return await streamed.get_final_message()


@pytest.mark.parametrize('stream', [False, True])
async def test_claude_thinks_through_four_turns(stream: bool) -> None:
    messages: list[Any] = []
    async with Simulator() as sim, anthropic.AsyncAnthropic(base_url=sim.base_url, api_key='k') as client:
        for place in PLACES:
            messages.append({'role': 'user', 'content': f'What is the weather in {place}?'})
            called = await claude_says(client, messages, stream=stream)
            thought, call = called.content
            assert thought.thinking.startswith(SELF)
            assert (call.type, call.input) == ('tool_use', {'city': place})
            result = {'type': 'tool_result', 'tool_use_id': call.id, 'content': 'sunny'}
            messages += [{'role': 'assistant', 'content': called.content}, {'role': 'user', 'content': [result]}]
            told = await claude_says(client, messages, stream=stream)
            assert [block.type for block in told.content] == ['thinking', 'text']
            assert told.usage.output_tokens_details.thinking_tokens > 0
            messages.append({'role': 'assistant', 'content': told.content})
        messages[-3]['content'] = messages[-3]['content'][1:]
        with pytest.raises(anthropic.BadRequestError, match='Expected `thinking`'):
            await claude_says(client, messages[:-1], stream=stream)


async def gpt_says(client: openai.AsyncOpenAI, items: list[Any], *, stream: bool) -> Any:
    if not stream:
        return await client.responses.create(**GPT, input=items)
    async with client.responses.stream(**GPT, input=items) as streamed:
        return await streamed.get_final_response()


def returned(answer: Any) -> list[Any]:
    """As the reasoning guide tells: everything that the model put out goes into the next input."""
    return [item.model_dump(exclude_none=True, exclude={'parsed_arguments'}) for item in answer.output]


@pytest.mark.parametrize('stream', [False, True])
async def test_gpt_thinks_through_four_turns(stream: bool) -> None:
    items: list[Any] = []
    async with Simulator() as sim, openai.AsyncOpenAI(base_url=f'{sim.base_url}/v1', api_key='k') as client:
        for place in PLACES:
            items.append({'role': 'user', 'content': f'What is the weather in {place}?'})
            called = await gpt_says(client, items, stream=stream)
            thought, call = called.output
            assert thought.summary[0].text.startswith(SELF)
            assert thought.encrypted_content
            assert call.arguments == f'{{"city":"{place}"}}'
            result = {'type': 'function_call_output', 'call_id': call.call_id, 'output': 'sunny'}
            items += [*returned(called), result]
            told = await gpt_says(client, items, stream=stream)
            assert told.output_text.endswith('get_weather answered: sunny')
            assert told.usage.output_tokens_details.reasoning_tokens > 0
            items += returned(told)
        forgetful = [item for item in items if item.get('type') != 'reasoning']
        with pytest.raises(openai.BadRequestError, match="without its required 'reasoning' item"):
            await gpt_says(client, forgetful, stream=stream)


async def test_gpt_counts_its_thoughts_in_chat() -> None:
    messages: Any = [{'role': 'user', 'content': QUESTION}]
    async with Simulator() as sim, openai.AsyncOpenAI(base_url=f'{sim.base_url}/v1', api_key='k') as client:
        plain = await client.chat.completions.create(model='gpt-x', messages=messages, reasoning_effort='low')
        asked: Any = {'model': 'deep', 'messages': messages, 'extra_body': {'thinking': {'type': 'enabled'}}}
        shown = await client.chat.completions.create(**asked)
    assert plain.usage is not None
    assert plain.usage.completion_tokens_details is not None
    assert (plain.usage.completion_tokens_details.reasoning_tokens or 0) > 0
    assert not (plain.choices[0].message.model_extra or {}).get('reasoning_content')
    assert (shown.choices[0].message.model_extra or {})['reasoning_content'].startswith(SELF)


def gemini_client(sim: Simulator) -> Any:
    return genai.Client(api_key='k', http_options=types.HttpOptions(base_url=sim.base_url)).aio


async def gemini_says(client: Any, contents: list[Any], *, stream: bool) -> types.Content:
    """The whole answer as one content; a stream's parts are kept as they came."""
    if not stream:
        answer = await client.models.generate_content(model='gemini-3-x', contents=contents, config=GEMINI)
        return answer.candidates[0].content  # type: ignore[no-any-return]
    chunks = await client.models.generate_content_stream(model='gemini-3-x', contents=contents, config=GEMINI)
    parts = [part async for chunk in chunks for part in chunk.candidates[0].content.parts or []]
    return types.Content(role='model', parts=parts)


@pytest.mark.parametrize('stream', [False, True])
async def test_gemini_thinks_through_four_turns(stream: bool) -> None:
    contents: list[Any] = []
    async with Simulator() as sim, gemini_client(sim) as client:
        for place in PLACES:
            asked = types.Part(text=f'What is the weather in {place}?')
            contents.append(types.Content(role='user', parts=[asked]))
            called = await gemini_says(client, contents, stream=stream)
            parts = called.parts or []
            assert ''.join(part.text or '' for part in parts if part.thought).startswith(SELF)
            [signed] = [part for part in parts if part.function_call]
            assert signed.function_call is not None
            assert signed.function_call.args == {'city': place}
            assert signed.thought_signature
            result = types.Part.from_function_response(name='get_weather', response={'output': 'sunny'})
            contents += [called, types.Content(role='user', parts=[result])]
            contents.append(await gemini_says(client, contents, stream=stream))
        for part in contents[-3].parts:
            part.thought_signature = None
        with pytest.raises(errors.ClientError, match='missing a thought_signature'):
            await gemini_says(client, contents[:-1], stream=stream)


async def test_the_clients_see_the_limits_in_the_headers() -> None:
    messages: Any = [{'role': 'user', 'content': QUESTION}]
    async with Simulator() as sim:
        async with openai.AsyncOpenAI(base_url=f'{sim.base_url}/v1', api_key='k') as gpt:
            answered = await gpt.chat.completions.with_raw_response.create(model='gpt-x', messages=messages)
        async with anthropic.AsyncAnthropic(base_url=sim.base_url, api_key='k') as claude:
            told = await claude.messages.with_raw_response.create(model='c', max_tokens=9, messages=messages)
    assert answered.headers['x-ratelimit-remaining-requests'] == '9999'
    assert told.headers['anthropic-ratelimit-requests-remaining'] == '9999'


async def test_the_clients_own_retries_get_over_a_429() -> None:
    messages: Any = [{'role': 'user', 'content': QUESTION}]
    fault = Fault('status', status=429, retry_after_s=0.01, times=1)
    async with Simulator(faults=[fault]) as sim:
        async with openai.AsyncOpenAI(base_url=f'{sim.base_url}/v1', api_key='k', max_retries=1) as gpt:
            await gpt.chat.completions.create(model='gpt-x', messages=messages)
        async with anthropic.AsyncAnthropic(base_url=sim.base_url, api_key='k', max_retries=1) as claude:
            await claude.messages.create(model='c', max_tokens=99, messages=messages)
        assert [record.status for record in sim.requests] == [429, 200, 429, 200]
