"""The vendors' own clients against the simulator: alone, and with layers in between that have trouble to deal with.

`direct` is a client as it comes. `layered` is one with a `LamellaTransport` of `Retry` and `Fallback`, and a first model
that is overloaded all the time: every call goes to it twice, and to the other model of the same vendor then.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors, types
from pydantic import BaseModel

from lamella.integrations.httpx2 import LamellaTransport
from lamella.middleware import Fallback, Retry
from lamella.simulator import Fault, Simulator
from tests.integrations.clients import Clients, clients

# google-genai's own way with aiohttp.
pytestmark = pytest.mark.filterwarnings('ignore:Inheritance class AiohttpClientSession:DeprecationWarning')

BUSY, SPARE = 'model-1', 'model-2'
PROMPT = 'I love bees. They make honey.'
QUESTION = 'What is the weather in Paris and Rome?'
CITY = {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']}
PLACES = ('Paris', 'Rome', 'Oslo', 'Lima')
PARALLEL = [{'city': 'Paris'}, {'city': 'Rome'}]
FALLBACKS = {'openai': 'openai', 'anthropic': 'anthropic', 'gemini': 'googleai'}


class Review(BaseModel):
    sentiment: str
    keywords: list[str]


REVIEW = Review(sentiment='positive', keywords=['love', 'bees', 'honey'])


@dataclass
class Setting:
    """A simulator, and what the clients meet on their way to it."""

    sim: Simulator
    layered: bool

    def made(self, vendor: str, **options: Any) -> Any:
        layers = [
            Retry(max_retries=1, initial_delay_ms=0, max_delay_ms=1),
            Fallback(models=[f'{FALLBACKS[vendor]}/{SPARE}']),
        ]
        between = LamellaTransport(use=layers[::-1]) if self.layered else None
        return clients(self.sim.base_url, between, **options)

    def answered(self) -> list[Any]:
        """The requests that were answered. With layers, each was preceded by two that were not."""
        good = [received for received in self.sim.requests if received.status == 200]
        models = [received.model for received in self.sim.requests]
        assert models == ([BUSY, BUSY, SPARE] * len(good) if self.layered else [BUSY] * len(good))
        return good


@pytest.fixture(params=['direct', 'layered'])
async def setting(request: pytest.FixtureRequest) -> AsyncIterator[Setting]:
    layered = request.param == 'layered'
    faults = [Fault('status', status=529, model=BUSY)] if layered else []
    async with Simulator(faults=faults) as sim:
        yield Setting(sim, layered)


def weather(call: Any) -> str:
    """What the tool says of the city that it was asked about."""
    return f'sunny in {call["city"]}'


# ── OpenAI, Chat Completions ────────────────────────────────────────────────────────────────────────────────────────

CHAT: Any = {'model': BUSY, 'messages': [{'role': 'user', 'content': PROMPT}]}
CHAT_TOOLS: Any = [
    {'type': 'function', 'function': {'name': 'get_weather', 'description': 'The weather.', 'parameters': CITY}}
]


async def test_chat_answers_whole_and_streamed(setting: Setting) -> None:
    async with setting.made('openai') as made:
        whole = await made.gpt.chat.completions.create(**CHAT)
        async with made.gpt.chat.completions.stream(**CHAT) as stream:
            kinds = [event.type async for event in stream]
            streamed = await stream.get_final_completion()
    assert whole.choices[0].message.content == streamed.choices[0].message.content
    assert PROMPT in whole.choices[0].message.content
    assert whole.usage.total_tokens > whole.usage.prompt_tokens > 0
    assert {'chunk', 'content.delta', 'content.done'} <= set(kinds)
    assert len(setting.answered()) == 2


async def test_chat_calls_tools_in_parallel(setting: Setting) -> None:
    asked: Any = {**CHAT, 'messages': [{'role': 'user', 'content': QUESTION}], 'tools': CHAT_TOOLS}
    async with setting.made('openai') as made:
        whole = await made.gpt.chat.completions.create(**asked)
        async with made.gpt.chat.completions.stream(**asked) as stream:
            streamed = await stream.get_final_completion()
        one = await made.gpt.chat.completions.create(**asked, parallel_tool_calls=False)
    for answer in (whole, streamed):
        assert answer.choices[0].finish_reason == 'tool_calls'
        calls = answer.choices[0].message.tool_calls
        assert [json.loads(call.function.arguments) for call in calls] == PARALLEL
        assert len({call.id for call in calls}) == 2
    assert len(one.choices[0].message.tool_calls) == 1
    setting.answered()


async def test_chat_parses_structured_output(setting: Setting) -> None:
    async with setting.made('openai') as made:
        parsed = await made.gpt.chat.completions.parse(**CHAT, response_format=Review)
        async with made.gpt.chat.completions.stream(**CHAT, response_format=Review) as stream:
            streamed = await stream.get_final_completion()
    assert parsed.choices[0].message.parsed == streamed.choices[0].message.parsed == REVIEW
    setting.answered()


async def test_chat_thinks_and_uses_tools_over_four_turns(setting: Setting) -> None:
    """OpenAI counts thoughts and never shows them; compatible servers show them and do not want them back."""
    messages: list[Any] = []
    async with setting.made('openai') as made:
        for place in PLACES:
            messages.append({'role': 'user', 'content': f'What is the weather in {place}?'})
            for _ in range(2):
                answer = await made.gpt.chat.completions.create(
                    model=BUSY, messages=messages, tools=CHAT_TOOLS, reasoning_effort='low',
                    extra_body={'include_reasoning': True},
                )  # fmt: skip
                message = answer.choices[0].message
                assert message.reasoning_content
                assert answer.usage.completion_tokens_details.reasoning_tokens > 0
                messages.append(message.to_dict())
                for call in message.tool_calls or ():
                    output = weather(json.loads(call.function.arguments))
                    messages.append({'role': 'tool', 'tool_call_id': call.id, 'content': output})
            assert f'sunny in {place}' in message.content
    assert len(setting.answered()) == 8


# ── OpenAI, Responses ───────────────────────────────────────────────────────────────────────────────────────────────

RESPONSE_TOOLS: Any = [{'type': 'function', 'name': 'get_weather', 'parameters': CITY, 'strict': False}]


async def test_responses_answer_whole_and_streamed(setting: Setting) -> None:
    async with setting.made('openai') as made:
        whole = await made.gpt.responses.create(model=BUSY, input=PROMPT)
        async with made.gpt.responses.stream(model=BUSY, input=PROMPT) as stream:
            numbers = [event.sequence_number async for event in stream]
            streamed = await stream.get_final_response()
    assert whole.output_text == streamed.output_text
    assert PROMPT in whole.output_text
    assert numbers == list(range(len(numbers)))
    setting.answered()


async def test_responses_call_tools_in_parallel(setting: Setting) -> None:
    asked: Any = {'model': BUSY, 'input': QUESTION, 'tools': RESPONSE_TOOLS}
    async with setting.made('openai') as made:
        whole = await made.gpt.responses.create(**asked)
        async with made.gpt.responses.stream(**asked) as stream:
            streamed = await stream.get_final_response()
    for answer in (whole, streamed):
        assert [json.loads(item.arguments) for item in answer.output if item.type == 'function_call'] == PARALLEL
    setting.answered()


async def test_responses_parse_structured_output(setting: Setting) -> None:
    async with setting.made('openai') as made:
        parsed = await made.gpt.responses.parse(model=BUSY, input=PROMPT, text_format=Review)
        async with made.gpt.responses.stream(model=BUSY, input=PROMPT, text_format=Review) as stream:
            streamed = await stream.get_final_response()
    assert parsed.output_parsed == streamed.output_parsed == REVIEW
    setting.answered()


@pytest.mark.parametrize('store', [True, False])
async def test_responses_think_and_use_tools_over_four_turns(setting: Setting, store: bool) -> None:
    """The simulator refuses calls without their reasoning, and reasoning whose seal was altered or left out."""
    items: list[Any] = []
    async with setting.made('openai') as made:
        for place in PLACES:
            items.append({'role': 'user', 'content': f'What is the weather in {place}?'})
            for _ in range(2):
                async with made.gpt.responses.stream(
                    model=BUSY, input=items, tools=RESPONSE_TOOLS, reasoning={'effort': 'low', 'summary': 'auto'},
                    store=store, include=[] if store else ['reasoning.encrypted_content'],
                ) as stream:  # fmt: skip
                    answer = await stream.get_final_response()
                thoughts = [item for item in answer.output if item.type == 'reasoning']
                assert [bool(item.encrypted_content) for item in thoughts] == [not store]
                assert thoughts[0].summary[0].text
                items += [item.to_dict() for item in answer.output]
                for item in answer.output:
                    if item.type == 'function_call':
                        output = weather(json.loads(item.arguments))
                        items.append({'type': 'function_call_output', 'call_id': item.call_id, 'output': output})
            assert f'sunny in {place}' in answer.output_text
    assert len(setting.answered()) == 8


# ── Anthropic ───────────────────────────────────────────────────────────────────────────────────────────────────────

MESSAGE: Any = {'model': BUSY, 'max_tokens': 4000, 'messages': [{'role': 'user', 'content': PROMPT}]}
CLAUDE_TOOLS: Any = [{'name': 'get_weather', 'description': 'The weather.', 'input_schema': CITY}]


async def test_messages_answer_whole_and_streamed(setting: Setting) -> None:
    async with setting.made('anthropic') as made:
        whole = await made.claude.messages.create(**MESSAGE)
        async with made.claude.messages.stream(**MESSAGE) as stream:
            text = ''.join([piece async for piece in stream.text_stream])
            streamed = await stream.get_final_message()
    assert whole.content[0].text == streamed.content[0].text == text
    assert PROMPT in text
    assert whole.usage.output_tokens == streamed.usage.output_tokens > 0
    setting.answered()


async def test_messages_call_tools_in_parallel(setting: Setting) -> None:
    asked: Any = {**MESSAGE, 'messages': [{'role': 'user', 'content': QUESTION}], 'tools': CLAUDE_TOOLS}
    async with setting.made('anthropic') as made:
        whole = await made.claude.messages.create(**asked)
        async with made.claude.messages.stream(**asked) as stream:
            streamed = await stream.get_final_message()
    for answer in (whole, streamed):
        assert answer.stop_reason == 'tool_use'
        assert [block.input for block in answer.content if block.type == 'tool_use'] == PARALLEL
    setting.answered()


async def test_messages_parse_structured_output(setting: Setting) -> None:
    async with setting.made('anthropic') as made:
        parsed = await made.claude.messages.parse(**MESSAGE, output_format=Review)
    assert parsed.parsed_output == REVIEW
    setting.answered()


@pytest.mark.parametrize('stream', [False, True])
async def test_messages_think_and_use_tools_over_four_turns(setting: Setting, stream: bool) -> None:
    """The simulator refuses a turn whose thinking does not come back first, or with another signature."""
    messages: list[Any] = []
    thinking = {'type': 'enabled', 'budget_tokens': 1024}
    async with setting.made('anthropic') as made:
        for place in PLACES:
            messages.append({'role': 'user', 'content': f'What is the weather in {place}?'})
            for _ in range(2):
                asked: Any = {**MESSAGE, 'messages': messages, 'tools': CLAUDE_TOOLS, 'thinking': thinking}
                if stream:
                    async with made.claude.messages.stream(**asked) as streaming:
                        answer = await streaming.get_final_message()
                else:
                    answer = await made.claude.messages.create(**asked)
                assert (answer.content[0].type, bool(answer.content[0].signature)) == ('thinking', True)
                messages.append({'role': 'assistant', 'content': [block.to_dict() for block in answer.content]})
                results = [
                    {'type': 'tool_result', 'tool_use_id': block.id, 'content': weather(block.input)}
                    for block in answer.content
                    if block.type == 'tool_use'
                ]
                messages += [{'role': 'user', 'content': results}] if results else []
            assert f'sunny in {place}' in answer.content[-1].text
    assert len(setting.answered()) == 8


# ── Google ──────────────────────────────────────────────────────────────────────────────────────────────────────────

DECLARED = types.FunctionDeclaration(name='get_weather', parameters_json_schema=CITY)
GEMINI_TOOLS: Any = [types.Tool(function_declarations=[DECLARED])]


async def pieces(stream: Any) -> list[Any]:
    return [piece async for piece in await stream]


async def test_gemini_answers_whole_and_streamed(setting: Setting) -> None:
    async with setting.made('gemini') as made:
        whole = await made.gemini.models.generate_content(model=BUSY, contents=PROMPT)
        streamed = await pieces(made.gemini.models.generate_content_stream(model=BUSY, contents=PROMPT))
    assert ''.join([piece.text or '' for piece in streamed]) == whole.text
    assert PROMPT in whole.text
    assert streamed[-1].usage_metadata.total_token_count == whole.usage_metadata.total_token_count > 0
    setting.answered()


async def test_gemini_calls_tools_in_parallel(setting: Setting) -> None:
    config = types.GenerateContentConfig(tools=GEMINI_TOOLS)
    asked: Any = {'model': BUSY, 'contents': QUESTION, 'config': config}
    async with setting.made('gemini') as made:
        whole = await made.gemini.models.generate_content(**asked)
        streamed = await pieces(made.gemini.models.generate_content_stream(**asked))
    assert [call.args for call in whole.function_calls] == PARALLEL
    assert [call.args for piece in streamed for call in piece.function_calls or ()] == PARALLEL
    setting.answered()


async def test_gemini_parses_structured_output(setting: Setting) -> None:
    config = types.GenerateContentConfig(response_mime_type='application/json', response_schema=Review)
    async with setting.made('gemini') as made:
        parsed = await made.gemini.models.generate_content(model=BUSY, contents=PROMPT, config=config)
    assert parsed.parsed == REVIEW
    setting.answered()


@pytest.mark.parametrize('stream', [False, True])
async def test_gemini_thinks_and_uses_tools_over_four_turns(setting: Setting, stream: bool) -> None:
    """The simulator refuses a call that lost its thought signature."""
    contents: list[Any] = []
    config = types.GenerateContentConfig(
        tools=GEMINI_TOOLS, thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=512)
    )
    async with setting.made('gemini') as made:
        for place in PLACES:
            contents.append(types.UserContent(f'What is the weather in {place}?'))
            for _ in range(2):
                asked: Any = {'model': BUSY, 'contents': contents, 'config': config}
                if stream:
                    said = await pieces(made.gemini.models.generate_content_stream(**asked))
                else:
                    said = [await made.gemini.models.generate_content(**asked)]
                parts = [part for piece in said for part in piece.candidates[0].content.parts]
                assert any(part.thought for part in parts)
                assert any(part.thought_signature for part in parts)
                contents.append(types.ModelContent(parts))
                results = [
                    types.Part.from_function_response(
                        name=part.function_call.name, response={'output': weather(part.function_call.args)}
                    )
                    for part in parts
                    if part.function_call
                ]
                contents += [types.UserContent(results)] if results else []
            assert f'sunny in {place}' in ''.join([part.text or '' for part in parts if not part.thought])
    assert len(setting.answered()) == 8


# ── errors, and the clients' own way with retry headers ─────────────────────────────────────────────────────────────

ERRORS = [
    (400, openai.BadRequestError, anthropic.BadRequestError),
    (401, openai.AuthenticationError, anthropic.AuthenticationError),
    (403, openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    (404, openai.NotFoundError, anthropic.NotFoundError),
    (409, openai.ConflictError, anthropic.ConflictError),
    (422, openai.UnprocessableEntityError, anthropic.UnprocessableEntityError),
    (429, openai.RateLimitError, anthropic.RateLimitError),
    (500, openai.InternalServerError, anthropic.InternalServerError),
    (503, openai.InternalServerError, anthropic.InternalServerError),
    (529, openai.InternalServerError, anthropic.InternalServerError),
]


@pytest.mark.parametrize(('status', 'of_openai', 'of_anthropic'), ERRORS)
async def test_every_error_is_the_clients_own(setting: Setting, status: int, of_openai: Any, of_anthropic: Any) -> None:
    setting.sim.use(faults=[Fault('status', status=status, message=f'It is {status}')])
    async with setting.made('openai') as made:
        with pytest.raises(of_openai, match=f'It is {status}') as gpt:
            await made.gpt.chat.completions.create(**CHAT)
        with pytest.raises(of_openai, match=f'It is {status}'):
            await made.gpt.responses.create(model=BUSY, input=PROMPT, stream=True)
    async with setting.made('anthropic') as made:
        with pytest.raises(of_anthropic, match=f'It is {status}') as claude:
            await made.claude.messages.create(**MESSAGE)
    async with setting.made('gemini') as made:
        with pytest.raises(errors.APIError, match=f'It is {status}') as gemini:
            await made.gemini.models.generate_content(model=BUSY, contents=PROMPT)
    assert (gpt.value.status_code, claude.value.status_code, gemini.value.code) == (status, status, status)
    assert type(gemini.value) is (errors.ServerError if status >= 500 else errors.ClientError)
    assert gpt.value.request_id
    assert claude.value.request_id


@pytest.mark.parametrize('wait_s', [0.25, 2.0, 30.0])
async def test_the_clients_read_when_to_come_back(setting: Setting, wait_s: float) -> None:
    """By the very functions that their own retries use."""
    setting.sim.use(faults=[Fault('status', status=429, retry_after_s=wait_s)])
    async with setting.made('openai') as made:
        with pytest.raises(openai.RateLimitError) as gpt:
            await made.gpt.chat.completions.create(**CHAT)
        assert made.gpt._parse_retry_after_header(gpt.value.response.headers) == wait_s
    async with setting.made('anthropic') as made:
        with pytest.raises(anthropic.RateLimitError) as claude:
            await made.claude.messages.create(**MESSAGE)
        assert made.claude._parse_retry_after_header(claude.value.response.headers) == wait_s


async def test_the_clients_own_retries_understand_the_simulator() -> None:
    async with Simulator() as sim:
        sim.use(faults=[Fault('status', status=429, retry_after_s=0.001, every=2)])
        options = types.HttpRetryOptions(attempts=2, initial_delay=0.001, max_delay=0.001)
        async with clients(sim.base_url) as made:
            await ask_twice(made, options)
        assert [received.status for received in sim.requests] == [200, 429, 200] * 3


async def ask_twice(made: Clients, options: Any) -> None:
    for _ in range(2):
        await made.gpt.with_options(max_retries=1).chat.completions.create(**{**CHAT, 'model': 'a'})
    for _ in range(2):
        await made.claude.with_options(max_retries=1).messages.create(**{**MESSAGE, 'model': 'b'})
    config = types.GenerateContentConfig(http_options=types.HttpOptions(retry_options=options))
    for _ in range(2):
        await made.gemini.models.generate_content(model='c', contents=PROMPT, config=config)
