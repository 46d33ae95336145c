"""`LamellaLlm`: any model of the ADK inside any of Lamella's layers, whole and streamed."""

import asyncio
import gc
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.models.registry import LLMRegistry
from google.genai import types
from google.genai.errors import ClientError, ServerError
from pydantic import BaseModel

from lamella import Lamella
from lamella.integrations.adk import AdkModel, LamellaLlm
from lamella.middleware import (
    BaseMiddleware,
    Cache,
    DefaultInstructions,
    DefaultSettings,
    Fallback,
    PIIRedaction,
    Retry,
    TenantBudget,
    ToolApproval,
)
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    ConfigError,
    LamellaError,
    ModelResponse,
    Rejected,
    StopRun,
    TextDelta,
    ToolRequestPart,
    ToolResponsePart,
)
from tests.adk.kit import (
    MODE_NAMES,
    MODES,
    SSE,
    UNARY,
    FakeLlm,
    Talk,
    api_error,
    call_answer,
    events_of,
    note_of,
    piece,
    pieces_of,
    rate_limited,
    runner_of,
    text_answer,
    texts,
)

both_modes = pytest.mark.parametrize('mode', MODES, ids=MODE_NAMES)


def agent(model: Any, **options: Any) -> LlmAgent:
    return LlmAgent(name='root', model=model, **options)


def layered(llm: Any, *use: Any, **options: Any) -> LamellaLlm:
    return LamellaLlm(llm, use=use, **options)


def retry(**options: Any) -> Retry:
    return Retry(initial_delay_ms=0, **options)


class Seen(BaseMiddleware):
    """Keeps what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.responses: list[ModelResponse] = []

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        self.requests.append(params.request)
        self.responses.append(await next_fn(params, ctx))
        return self.responses[-1]


class Shouting(BaseMiddleware):
    """Changes every text, whole and in pieces."""

    async def wrap_stream(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        async for part in next_fn(params, ctx):
            yield part.replace(text=part.text.upper()) if isinstance(part, TextDelta) else part


# ── what goes to the model and comes from it ────────────────────────────────────────────────────────────────────────


@both_modes
async def test_without_layers_all_is_as_without_it(mode: Any) -> None:
    answers = [piece('Hel'), piece('lo'), text_answer('Hello', partial=False)] if mode is SSE else text_answer('Hello')
    plain, inner = FakeLlm('m', [answers]), FakeLlm('m', [answers])
    bare = await events_of(agent(plain), mode=mode)
    ours = await events_of(agent(layered(inner)), mode=mode)
    shown = {'content', 'partial', 'finish_reason', 'error_code', 'usage_metadata', 'custom_metadata', 'model_version'}
    assert [event.model_dump(include=shown) for event in ours] == [event.model_dump(include=shown) for event in bare]
    assert inner.requests[0].model_dump() == plain.requests[0].model_dump()
    assert inner.streamed == plain.streamed == [mode is SSE]


async def test_what_layers_did_not_change_goes_out_as_the_very_objects() -> None:
    def live_tool() -> None: ...

    options = types.HttpOptions(headers={'x-mine': '1'})
    config = types.GenerateContentConfig(http_options=options, temperature=0.5)
    llm = FakeLlm('m')
    await events_of(agent(layered(llm, Seen()), generate_content_config=config))
    sent = llm.requests[0].config
    assert sent.temperature == 0.5
    assert sent.http_options.headers['x-mine'] == '1'
    assert sent.labels == {'adk_agent_name': 'root'}


async def test_a_layer_sees_the_whole_request() -> None:
    seen = Seen()
    config = types.GenerateContentConfig(
        temperature=0.5,
        max_output_tokens=7,
        safety_settings=[{'category': 'HARM_CATEGORY_HARASSMENT', 'threshold': 'BLOCK_NONE'}],
    )
    root = agent(layered(FakeLlm('m'), seen), instruction='Be brief.', tools=[weather], generate_content_config=config)
    await events_of(root, message='rain?')
    (request,) = seen.requests
    assert [(message.role, message.text) for message in request.messages][-1] == ('user', 'rain?')
    assert 'Be brief.' in request.messages[0].text
    assert request.messages[0].role == 'system'
    assert (request.config.temperature, request.config.max_output_tokens) == (0.5, 7)
    assert [tool.name for tool in request.tools] == ['weather']
    assert 'safetySettings' in request.provider_options['google']


def weather(city: str) -> dict[str, str]:
    """The weather in a city."""
    return {'sky': f'rain in {city}'}


@both_modes
async def test_a_layer_that_changes_settings_changes_those_and_nothing_else(mode: Any) -> None:
    llm = FakeLlm('m')
    config = types.GenerateContentConfig(top_p=0.25, http_options=types.HttpOptions(headers={'x-mine': '1'}))
    layers = [
        DefaultSettings(config={'temperature': 0.75}),
        DefaultInstructions(text='Answer in French.', mode='prepend'),
    ]
    await events_of(agent(layered(llm, *layers), generate_content_config=config, tools=[weather]), mode=mode)
    sent = llm.requests[0].config
    assert (sent.temperature, sent.top_p) == (0.75, 0.25)
    assert sent.http_options.headers['x-mine'] == '1'
    assert 'Answer in French.' in str(sent.system_instruction)
    assert [f.name for tool in sent.tools for f in tool.function_declarations] == ['weather']


async def test_thought_signatures_and_unknown_blocks_survive_a_changed_request() -> None:
    """A layer changes the last message; what the model signed two turns before goes back to it byte for byte."""
    signature = bytes(range(256))
    thought = types.Part(text='hm', thought=True)
    call = types.Part(
        function_call=types.FunctionCall(name='weather', args={'city': 'Bergen'}), thought_signature=signature
    )
    first = LlmResponse(
        content=types.Content(role='model', parts=[thought, call]), finish_reason=types.FinishReason.STOP
    )
    llm = FakeLlm('m', [first, 'done'])
    await events_of(agent(layered(llm, Loud()), tools=[weather]))
    parts = [part for content in llm.requests[1].contents for part in content.parts]
    (signed,) = [part for part in parts if part.function_call]
    assert signed.thought_signature == signature
    assert signed.function_call.args == {'city': 'Bergen'}
    assert signed.function_call.id is None
    (answered,) = [part.function_response for part in parts if part.function_response]
    assert (answered.response, answered.id) == ({'sky': 'rain in Bergen'}, None)
    assert [part.text for part in parts if part.text == 'HI'] == ['HI']


class Loud(BaseMiddleware):
    async def transform_params(self, params: Any, ctx: Any) -> Any:
        first, *others = params.request.messages
        rest = [
            m.replace(content=tuple(_loud(p) for p in m.content)) if m.role == 'user' else m for m in (first, *others)
        ]
        return params.replace(request=params.request.replace(messages=tuple(rest)))


def _loud(part: Any) -> Any:
    return part.replace(text=part.text.upper()) if hasattr(part, 'text') else part


async def test_images_go_both_ways_as_they_are() -> None:
    image = bytes(range(256)) * 3
    llm = FakeLlm('m', [LlmResponse(content=types.Content(role='model', parts=[
        types.Part(text='here'), types.Part(inline_data=types.Blob(mime_type='image/png', data=image))]))])  # fmt: skip
    question = types.Content(role='user', parts=[
        types.Part(text='see'), types.Part(inline_data=types.Blob(mime_type='image/png', data=image))])  # fmt: skip
    (event,) = await Talk(runner_of(agent(layered(llm, Loud(), Shouting())))).say(question)
    assert llm.requests[0].contents[0].parts[1].inline_data.data == image
    assert [part.text for part in event.content.parts if part.text] == ['HERE']
    assert event.content.parts[1].inline_data.data == image


@both_modes
async def test_a_tool_round_has_ids_for_layers_and_none_for_the_model(mode: Any) -> None:
    seen, llm = Seen(), FakeLlm('m', [call_answer('weather', {'city': 'Bergen'}), 'It rains.'])
    events = await events_of(agent(layered(llm, seen), tools=[weather]), mode=mode)
    assert texts(events) == ['It rains.']
    parts = [part for message in seen.requests[1].messages for part in message.content]
    asked = [part.tool_request.ref for part in parts if isinstance(part, ToolRequestPart)]
    answered = [part.tool_response.ref for part in parts if isinstance(part, ToolResponsePart)]
    assert asked == answered == ['adk-call-1']
    calls = [call for event in events for call in event.get_function_calls()]
    responses = [response for event in events for response in event.get_function_responses()]
    assert [call.id for call in calls] == [response.id for response in responses]


async def test_usage_and_finish_reason_and_own_metadata_survive_a_changed_answer() -> None:
    usage = types.GenerateContentResponseUsageMetadata(
        prompt_token_count=10, candidates_token_count=5, thoughts_token_count=2, total_token_count=17,
        cached_content_token_count=4, prompt_tokens_details=[{'modality': 'TEXT', 'token_count': 10}],
    )  # fmt: skip
    said = text_answer(
        'cut', finish_reason=types.FinishReason.MAX_TOKENS, usage_metadata=usage, custom_metadata={'mine': [1]},
        model_version='m-001', avg_logprobs=-0.5, interaction_id='i1',
    )  # fmt: skip
    seen = Seen()
    (event,) = await events_of(agent(layered(FakeLlm('m', [said]), Shouting(), seen)))
    assert texts([event]) == ['CUT']
    assert event.usage_metadata.model_dump(exclude_none=True) == usage.model_dump(exclude_none=True)
    assert event.finish_reason is types.FinishReason.MAX_TOKENS
    assert event.custom_metadata['mine'] == [1]
    assert (event.model_version, event.avg_logprobs, event.interaction_id) == ('m-001', -0.5, 'i1')
    assert (seen.responses[0].usage.input_tokens, seen.responses[0].usage.output_tokens) == (10, 7)


class Verdict(BaseModel):
    mood: str


@both_modes
@pytest.mark.parametrize(
    'schema', [Verdict, {'type': 'object', 'properties': {'mood': {'type': 'string'}}}], ids=['class', 'dict']
)
async def test_output_schemas_reach_layers_and_the_model(mode: Any, schema: Any) -> None:
    seen, llm = Seen(), FakeLlm('m', ['{"mood": "good"}'])
    await events_of(
        agent(layered(llm, seen, DefaultSettings(config={'temperature': 0.5})), output_schema=schema), mode=mode
    )
    assert seen.requests[0].output.format == 'json'
    assert 'mood' in seen.requests[0].output.schema['properties']
    assert llm.requests[0].config.response_schema == schema


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pieces_come_as_they_are_made_and_one_whole_answer_last() -> None:
    llm = FakeLlm('m', [[piece('a'), piece('b', thought=True), piece('c'), thinking_whole()]])
    events = await events_of(agent(layered(llm, Shouting())), mode=SSE)
    assert [(event.partial, event.content.parts[0].text, event.content.parts[0].thought) for event in events[:-1]] == [
        (True, 'A', None), (True, 'b', True), (True, 'C', None),
    ]  # fmt: skip
    last = events[-1]
    assert (last.partial, last.finish_reason) == (False, types.FinishReason.STOP)
    assert [(part.text, part.thought) for part in last.content.parts] == [('A', None), ('b', True), ('C', None)]


def thinking_whole() -> LlmResponse:
    parts = [types.Part(text='a'), types.Part(text='b', thought=True), types.Part(text='c', thought_signature=b'sig')]
    return LlmResponse(
        content=types.Content(role='model', parts=parts), finish_reason=types.FinishReason.STOP, partial=False
    )


async def test_a_signature_that_comes_with_the_whole_is_kept() -> None:
    llm = FakeLlm('m', [[piece('a'), piece('b', thought=True), piece('c'), thinking_whole()]])
    for layer in (Seen(), Shouting()):
        events = await events_of(agent(layered(llm, layer)), mode=SSE)
        assert events[-1].content.parts[-1].thought_signature == b'sig'


async def test_calls_in_pieces_are_taken_from_the_whole_once() -> None:
    unfinished = call_answer('weather').model_copy(update={'partial': True, 'finish_reason': None})
    whole = call_answer('weather', {'city': 'Bergen'})
    whole.content.parts.insert(0, types.Part(text='Let me see.'))
    llm = FakeLlm(
        'm', [[piece('Let me '), piece('see.'), unfinished, whole.model_copy(update={'partial': False})], 'done']
    )
    events = await events_of(agent(layered(llm, Shouting()), tools=[weather]), mode=SSE)
    calls = [call.args for event in events if not event.partial for call in event.get_function_calls()]
    assert calls == [{'city': 'Bergen'}]
    assert texts(events) == ['LET ME SEE.', 'DONE']


@pytest.mark.parametrize(
    ('shown', 'whole'),
    [
        (['AB'], ['A', 'B']),
        (['A', 'B'], ['AB']),
        (['A'], ['AB']),
        (['A'], ['A', 'B']),
        ([], ['A', 'B']),
        (['AB'], ['AB', '']),
    ],
)
async def test_however_the_whole_is_cut_no_text_comes_twice_and_none_is_lost(
    shown: list[str], whole: list[str]
) -> None:
    parts = [types.Part(text=text, thought_signature=text.encode() or None) for text in whole]
    last = LlmResponse(
        content=types.Content(role='model', parts=parts), finish_reason=types.FinishReason.STOP, partial=False
    )
    llm = FakeLlm('m', [[*[piece(text) for text in shown], last]])
    seen = Seen()
    events = await events_of(agent(layered(llm, seen)), mode=SSE)
    assert seen.responses[0].text == ''.join(whole)
    assert ''.join(pieces_of(events)) == ''.join(whole)
    assert [part.text for part in events[-1].content.parts] == whole


async def test_several_whole_answers_of_one_stream_are_one() -> None:
    """Older ways of streaming give the text, and then the call, each as a whole answer."""
    text = text_answer('Let me see.', finish_reason=None)
    llm = FakeLlm('m', [[piece('Let me see.'), text, call_answer('weather', {'city': 'Oslo'})], 'done'])
    seen = Seen()
    events = await events_of(agent(layered(llm, seen), tools=[weather]), mode=SSE)
    assert seen.responses[0].text == 'Let me see.'
    assert [request.tool_request.input for request in seen.responses[0].tool_requests] == [{'city': 'Oslo'}]
    assert texts(events) == ['Let me see.', 'done']


async def test_a_stream_without_an_end_is_a_failure() -> None:
    llm = FakeLlm('m', [[piece('half')]])
    with pytest.raises(ServerError, match='ended before'):
        await events_of(agent(layered(llm)), mode=SSE)


async def test_leaving_a_stream_closes_the_models() -> None:
    closed = []

    class Endless(FakeLlm):
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
            try:
                while True:
                    yield piece('on and ')
            finally:
                closed.append(True)

    answers = layered(Endless('m'), Shouting()).generate_content_async(_request(), stream=True)
    assert (await anext(answers)).content.parts[0].text == 'ON AND '
    await answers.aclose()
    assert closed == [True]


def _request() -> Any:
    return LlmRequest(contents=[types.Content(role='user', parts=[types.Part(text='hi')])])


# ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@both_modes
async def test_retry(mode: Any) -> None:
    llm = FakeLlm('m', [rate_limited(), api_error(503, 'UNAVAILABLE'), 'at last'])
    sink = CollectingSink()
    assert texts(await events_of(agent(layered(llm, retry(), sinks=[sink])), mode=mode)) == ['at last']
    assert len(llm.asked) == 3
    assert [event.facts['status'] for event in sink.named('model.error')] == ['RESOURCE_EXHAUSTED', 'UNAVAILABLE']


async def test_retry_waits_as_long_as_the_provider_says() -> None:
    detail = [{'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '7s'}]
    llm = FakeLlm('m', [api_error(429, 'RESOURCE_EXHAUSTED', details=detail), 'at last'])
    sink = CollectingSink()
    llm_in_layers = layered(llm, Retry(max_delay_ms=5000), sinks=[sink], clock=FakeClock())
    with pytest.raises(ClientError):  # 7 s is longer than it may wait
        await events_of(agent(llm_in_layers))
    (failed,) = sink.named('model.error')
    assert failed.facts['error'].retry_after_s == 7


async def test_the_headers_retry_after_counts_too() -> None:
    class Answer:
        headers = {'Retry-After': '9'}  # noqa: RUF012

    error = ClientError(429, {'error': {'message': 'no', 'status': 'RESOURCE_EXHAUSTED'}}, Answer())
    sink = CollectingSink()
    with pytest.raises(ClientError):
        await events_of(agent(layered(FakeLlm('m', [error]), sinks=[sink])))
    assert sink.named('model.error')[0].facts['error'].retry_after_s == 9


async def test_a_stream_is_not_retried_after_text() -> None:
    llm = FakeLlm('m', [[piece('half'), rate_limited()], 'whole'])
    with pytest.raises(ClientError, match='429'):
        await events_of(agent(layered(llm, retry())), mode=SSE)
    assert len(llm.asked) == 1


async def test_a_visible_restart_is_told_in_the_stream() -> None:
    llm = FakeLlm('m', [[piece('half'), rate_limited()], [piece('whole'), text_answer('whole', partial=False)]])
    events = await events_of(agent(layered(llm, retry(on_partial='restart'))), mode=SSE)
    restarts = [n for n, event in enumerate(events) if (event.custom_metadata or {}).get('lamella_restarted')]
    assert len(restarts) == 1
    assert pieces_of(events[: restarts[0]]) == ['half']
    assert pieces_of(events[restarts[0] :]) == ['whole']
    assert texts(events) == ['whole']


@both_modes
async def test_fallback_to_another_name_of_the_same_model(mode: Any) -> None:
    llm = FakeLlm('m', [rate_limited()], backup=['from the backup'])
    events = await events_of(agent(layered(llm, Fallback(models=['backup']))), mode=mode)
    assert (texts(events), llm.asked) == (['from the backup'], ['m', 'backup'])
    assert note_of(events[-1]) == {
        'fallback_triggered': True, 'original_model': 'adk/m', 'fallback_model': 'adk/backup', 'fallback_attempt': 1,
        'error_code': 'RESOURCE_EXHAUSTED',
    }  # fmt: skip


@both_modes
async def test_fallback_to_a_model_of_the_adks_registry_and_to_an_object(mode: Any) -> None:
    class Other(FakeLlm):
        def __init__(self, model: str) -> None:
            super().__init__(model, [f'I am {model}'])

        @classmethod
        def supported_models(cls) -> list[str]:
            return ['other-for-this-test-.*']

    LLMRegistry.register(Other)
    for wanted in ('other-for-this-test-1', 'adk/other-for-this-test-1', AdkModel('other-for-this-test-1')):
        llm = FakeLlm('m', [rate_limited()])
        events = await events_of(agent(layered(llm, Fallback(models=[wanted]))), mode=mode)
        assert texts(events) == ['I am other-for-this-test-1']
        assert llm.asked == ['m']


@both_modes
async def test_fallback_to_a_model_of_lamella_with_tools(mode: Any) -> None:
    """The other vendor's model takes over after the tool has run: it sees the call and its answer, paired."""
    backup = ScriptedModel(['It rains.'])
    llm = FakeLlm('m', [call_answer('weather', {'city': 'Bergen'}), rate_limited()])
    events = await events_of(agent(layered(llm, Fallback(models=[backup])), tools=[weather]), mode=mode)
    assert texts(events) == ['It rains.']
    parts = [part for message in backup.requests[0].messages for part in message.content]
    refs = [part.tool_request.ref for part in parts if isinstance(part, ToolRequestPart)]
    assert refs == [part.tool_response.ref for part in parts if isinstance(part, ToolResponsePart)] == ['adk-call-1']


async def test_an_unknown_name_is_told_before_anything_is_on_fire() -> None:
    with pytest.raises(LookupError, match='nowhere/at-all'):
        await events_of(agent(layered(FakeLlm('m'), Fallback(models=['nowhere/at-all']), plugins=[])))


@both_modes
async def test_cache_answers_the_same_request_once(mode: Any) -> None:
    llm = FakeLlm('m', ['first', 'second'])
    root = agent(layered(llm, Cache(ttl_s=60)))
    said = [texts(await events_of(root, mode=mode)) for _ in range(3)]
    assert said == [['first']] * 3
    assert len(llm.asked) == 1


class Repeating(BaseMiddleware):
    """Gives its first answer again and again, as something recorded is given."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = None

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        if self.answer is None:
            self.answer = await next_fn(params, ctx)
        elif any(isinstance(part, ToolResponsePart) for part in params.request.messages[-1].content):
            return await next_fn(params, ctx)
        return self.answer


async def test_a_call_that_is_given_again_gets_a_new_id() -> None:
    llm = FakeLlm('m', [call_answer('weather', {'city': 'Oslo'}), 'done'])
    root = agent(layered(llm, Repeating()), tools=[weather])
    ids = []
    for _ in range(3):
        events = await events_of(root)
        ids += [call.id for event in events for call in event.get_function_calls()]
        assert texts(events)[-1] == 'done'
    assert len(set(ids)) == len(ids) == 3


@both_modes
async def test_pii_never_reaches_the_model_and_comes_back_to_the_user(mode: Any) -> None:
    seen = Seen()
    llm = FakeLlm('m', ['noted'])
    await events_of(agent(layered(llm, PIIRedaction(), seen)), mode=mode, message='Write to ann@example.com')
    assert 'ann@example.com' not in str(llm.requests[0].contents)
    assert 'Write to' in str(llm.requests[0].contents)


@both_modes
async def test_a_refusal_looks_like_the_adks_errors_and_says_who_refused(mode: Any) -> None:
    class Closed(BaseMiddleware):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            raise Rejected('closed today', by=self, retry_after_s=3)

    with pytest.raises(ClientError) as caught:
        await events_of(agent(layered(FakeLlm('m'), Closed())), mode=mode)
    assert (caught.value.code, caught.value.status) == (429, 'RESOURCE_EXHAUSTED')
    assert isinstance(caught.value.__cause__, Rejected)
    assert caught.value.__cause__.by == 'closed'
    assert 'closed today' in caught.value.message


@both_modes
async def test_values_of_the_call_reach_the_layers(mode: Any) -> None:
    tenants = []

    class Tenant(BaseMiddleware):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            tenants.append((dict(ctx.context), ctx.is_streaming))
            return await next_fn(params, ctx)

    given = {'tenant': 'acme'}
    for context in (given, lambda request: {'tenant': request.model}):
        await events_of(agent(layered(FakeLlm('m'), Tenant(), context=context)), mode=mode)
    assert [values['tenant'] for values, _ in tenants] == ['acme', 'm']
    assert [streaming for _, streaming in tenants] == [mode is SSE] * 2


async def test_a_stopped_run_is_an_answer() -> None:
    class Stopping(BaseMiddleware):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            raise StopRun('guardrail', 'enough', response=ModelResponse.text_of('I must stop here.'))

    assert texts(await events_of(agent(layered(FakeLlm('m'), Stopping())))) == ['I must stop here.']


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@both_modes
@pytest.mark.parametrize('code', [400, 401, 403, 404, 429, 500, 503, 504])
async def test_the_error_that_leaves_is_the_one_the_model_raised(mode: Any, code: int) -> None:
    error = api_error(code)
    with pytest.raises(type(error)) as caught:
        await events_of(agent(layered(FakeLlm('m', [error]), retry(max_retries=1))), mode=mode)
    assert caught.value is error


@both_modes
async def test_errors_of_the_program_are_never_retried(mode: Any) -> None:
    llm = FakeLlm('m', [TypeError('a bug')])
    with pytest.raises(TypeError, match='a bug'):
        await events_of(agent(layered(llm, retry())), mode=mode)
    assert len(llm.asked) == 1


class LiteLike(Exception):
    """As LiteLLM, OpenAI and Anthropic have it."""

    status_code = 529


@both_modes
@pytest.mark.parametrize('error', [LiteLike('busy'), TimeoutError('slow'), ConnectionResetError('gone')], ids=type)
async def test_errors_of_other_clients_are_retried_too(mode: Any, error: Exception) -> None:
    llm = FakeLlm('m', [error, 'fine'])
    assert texts(await events_of(agent(layered(llm, retry())), mode=mode)) == ['fine']
    assert len(llm.asked) == 2


@both_modes
async def test_an_answer_that_is_an_error_is_retried_and_given_back_at_last(mode: Any) -> None:
    failed = LlmResponse(error_code='503', error_message='busy', custom_metadata={'mine': 1})
    llm = FakeLlm('m', [failed, 'fine'])
    assert texts(await events_of(agent(layered(llm, retry())), mode=mode)) == ['fine']
    (event,) = await events_of(agent(layered(FakeLlm('m', [failed]), retry(max_retries=1))), mode=mode)
    assert (event.error_code, event.error_message, event.custom_metadata) == ('503', 'busy', {'mine': 1})


@both_modes
async def test_a_blocked_answer_stays_an_answer(mode: Any) -> None:
    blocked = LlmResponse(error_code='SAFETY', error_message='no', finish_reason=types.FinishReason.SAFETY)
    seen, llm = Seen(), FakeLlm('m', [blocked])
    (event,) = await events_of(agent(layered(llm, retry(), seen)), mode=mode)
    assert (event.error_code, event.error_message, len(llm.asked)) == ('SAFETY', 'no', 1)
    assert seen.responses[0].finish_reason == 'blocked'


# ── the model itself ────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_the_model_it_wraps_to_the_adk() -> None:
    llm = FakeLlm('gemini-2.5-flash')
    wrapped = layered(llm, retry())
    assert (wrapped.model, wrapped.inner, wrapped.capabilities) == ('gemini-2.5-flash', llm, llm.capabilities)
    assert 'Retry' in wrapped.explain()


async def test_many_runs_share_one_model() -> None:
    class Slow(FakeLlm):
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
            question = llm_request.contents[-1].parts[0].text
            await asyncio.sleep(0)
            yield piece(f'to {question}')
            await asyncio.sleep(0)
            yield text_answer(f'to {question}', partial=False)

    runner = runner_of(agent(layered(Slow('m'), retry(), Shouting())))
    said = await asyncio.gather(*[Talk(runner, SSE).say(f'question {n}') for n in range(40)])
    assert [texts(events) for events in said] == [[f'TO QUESTION {n}'] for n in range(40)]


async def test_cancelling_a_run_cancels_the_models_call() -> None:
    begun, cancelled = asyncio.Event(), []

    class Stuck(FakeLlm):
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
            try:
                begun.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            yield text_answer('never')

    run = asyncio.create_task(events_of(agent(layered(Stuck('m'), retry(), Fallback(models=['backup'])))))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert cancelled == [True]


async def test_a_request_that_cannot_be_read_is_an_error_of_the_adks_kind() -> None:
    odd = LlmRequest(
        contents=[types.Content(role='user', parts=[types.Part(function_call=types.FunctionCall(name=''))])]
    )
    with pytest.raises(ClientError, match='cannot be read') as caught:
        await anext(layered(FakeLlm('m'), retry()).generate_content_async(odd))
    assert caught.value.code == 400


def test_names_are_looked_up_in_the_adks_registry() -> None:
    assert type(layered('gemini-2.5-flash').inner).__name__ == 'Gemini'
    with pytest.raises(ConfigError, match='no-such-model'):
        layered('no-such-model')


def test_a_layer_for_tools_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'ToolApproval.*LamellaPlugin'):
        layered(FakeLlm('m'), ToolApproval())


def test_a_forgotten_list_is_told() -> None:
    with pytest.raises(ConfigError, match='use='):
        LamellaLlm(FakeLlm('m'), use=retry())


async def test_live_connections_are_the_models_own() -> None:
    with pytest.raises(NotImplementedError):
        layered(FakeLlm('m')).connect(_request())


async def test_one_wrapped_in_another() -> None:
    inner = layered(FakeLlm('m', ['hello']), Shouting())
    assert texts(await events_of(agent(layered(inner, Seen())))) == ['HELLO']


async def test_an_adk_model_answers_lamellas_own_calls() -> None:
    llm = FakeLlm('m', [call_answer('weather', {'city': 'Bergen'}), 'It rains.'])
    response = await Lamella(model=AdkModel(llm)).generate(prompt='Rain?', system='Be brief.', tools=[weather])
    assert (response.text, response.model) == ('It rains.', 'adk/m')
    assert llm.requests[0].contents[0].parts[0].text == 'Rain?'
    streamed = Lamella(model=AdkModel(FakeLlm('m', [[piece('a'), text_answer('ab', partial=False)]])))
    assert [text async for text in streamed.generate_stream(prompt='x').text_stream] == ['a', 'b']


async def test_calls_leave_nothing_behind() -> None:
    class Forgetful(FakeLlm):
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
            yield text_answer('hello')

    wrapped = layered(Forgetful('m'), retry(), Fallback(models=['backup']))
    for round_number in range(2):
        for _ in range(1000):
            async for _ in wrapped.generate_content_async(_request()):
                pass
        gc.collect()
        if round_number == 0:
            before = len(gc.get_objects())
    assert len(gc.get_objects()) - before < 500


async def test_budgets_are_kept() -> None:
    usage = types.GenerateContentResponseUsageMetadata(
        prompt_token_count=10, candidates_token_count=90, total_token_count=100
    )
    llm = FakeLlm('m', [text_answer('fine', usage_metadata=usage)])
    budget = TenantBudget(max_tokens=150, window_s=60)
    config = types.GenerateContentConfig(max_output_tokens=90)
    root = agent(layered(llm, budget, context={'tenant': 'acme'}), generate_content_config=config)
    outcomes = []
    for _ in range(4):
        try:
            outcomes += texts(await events_of(root, mode=UNARY))
        except ClientError as error:
            outcomes.append(error.status)
    assert outcomes[0] == 'fine'
    assert outcomes[-1] == 'RESOURCE_EXHAUSTED'


async def test_lamellas_errors_pass_through_a_wrapped_model() -> None:
    with pytest.raises(ServerError) as caught:
        await events_of(agent(layered(FakeLlm('m', [LamellaError('UNAVAILABLE', 'gone')]))))
    assert isinstance(caught.value.__cause__, LamellaError)
