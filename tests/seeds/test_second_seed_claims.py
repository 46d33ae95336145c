"""What the second seed says of its two contracts, in Python: the checked factory, and the model with layers fixed on it."""

from typing import Any

import pytest
from pydantic import BaseModel, Field

from lamella import wrap_language_model
from lamella.middleware import BaseMiddleware, Fallback, generate_middleware
from lamella.testing import ScriptedModel
from lamella.types import ConfigError, Finished, LamellaError, TextDelta, ToolRequest
from tests.seeds.vendor import fails, world

# ── dynamic: a factory, called for each request ─────────────────────────────────────────────────────────────────────


class ContextualRetryConfig(BaseModel):
    trace_id: str = Field(min_length=1)
    max_retries: int = Field(default=3, ge=1, le=5)
    backoff_base: float = Field(default=200, ge=100)


log: list[str] = []


@generate_middleware(
    name='contextualRetryInterceptor',
    description='Attaches trace context and retries transient failures',
    config=ContextualRetryConfig,
)
def contextual_retry_interceptor(config: ContextualRetryConfig) -> dict[str, Any]:
    async def model(params, ctx, next_fn):
        request = params.request.replace(metadata={**params.request.metadata, 'traceId': config.trace_id})
        for attempt in range(1, config.max_retries + 1):
            try:
                response = await next_fn(params.replace(request=request), ctx)
            except LamellaError:
                if attempt == config.max_retries:
                    raise
                await ctx.clock.sleep(config.backoff_base * 2**attempt * (0.5 + ctx.random.random()) / 1000)
                continue
            log.append(f'[TRACE:{config.trace_id}] Model call succeeded: {response.finish_reason}')
            return response

    async def tool(params, ctx, next_fn):
        log.append(f'[TRACE:{config.trace_id}] Tool intercepted: {params.tool_request.name}')
        return await next_fn(params, ctx)

    return {'model': model, 'tool': tool}


@pytest.fixture(autouse=True)
def _clean_log() -> None:
    log.clear()


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({}, 'trace_id: Field required'),
        ({'trace_id': ''}, 'trace_id: String should have at least 1 character'),
        ({'trace_id': 't', 'max_retries': 6}, 'max_retries: Input should be less than or equal to 5'),
        ({'trace_id': 't', 'backoff_base': 99}, 'backoff_base: Input should be greater than or equal to 100'),
        ({'trace_id': 't', 'maxRetries': 2}, "unknown setting 'maxRetries': did you mean 'max_retries'"),
    ],
)
def test_wrong_settings_are_refused_at_the_call_site(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        contextual_retry_interceptor(**options)
    assert 'contextualRetryInterceptor' in str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        contextual_retry_interceptor(trace_id='', max_retries=0, backoff_base=1)
    assert [field in str(caught.value) for field in ('trace_id', 'max_retries', 'backoff_base')] == [True] * 3


def test_defaults_are_filled_in() -> None:
    config = contextual_retry_interceptor(trace_id='req-1').config
    assert (config.max_retries, config.backoff_base) == (3, 200)


async def test_the_factorys_layer_is_configured_for_each_request() -> None:
    app = world({'m': [fails('UNAVAILABLE'), 'one', fails('UNAVAILABLE'), fails('UNAVAILABLE')]})
    response = await app.ai.generate(
        prompt='Draft', use=[contextual_retry_interceptor(trace_id='req-1', max_retries=2)]
    )
    assert response.text == 'one'
    with pytest.raises(LamellaError):
        await app.ai.generate(prompt='Draft', use=[contextual_retry_interceptor(trace_id='req-2', max_retries=1)])
    assert log == ['[TRACE:req-1] Model call succeeded: stop']
    assert [request.metadata['traceId'] for request in app.vendor.models['m'].requests] == ['req-1', 'req-1', 'req-2']


async def test_tool_execution_is_a_hook_of_its_own() -> None:
    def search(query: str) -> str:
        """Search."""
        return f'found {query}'

    app = world({'m': [ToolRequest('search', {'query': 'x'}), 'done']})
    await app.ai.generate(prompt='go', tools=[search], use=[contextual_retry_interceptor(trace_id='t')])
    assert log[1] == '[TRACE:t] Tool intercepted: search'


async def test_the_model_hook_handles_streams_too() -> None:
    app = world({'m': [fails('UNAVAILABLE'), 'streamed']})
    stream = app.ai.generate_stream(prompt='Draft', use=[contextual_retry_interceptor(trace_id='t')])
    assert ''.join([piece async for piece in stream.text_stream]) == 'streamed'
    assert log == ['[TRACE:t] Model call succeeded: stop']


def test_a_factory_that_makes_a_misspelled_hook_is_refused_when_called() -> None:
    broken = generate_middleware(lambda: {'modle': None}, name='broken')
    with pytest.raises(ConfigError, match="'modle' is not a hook: did you mean 'model'"):
        broken()


@pytest.mark.parametrize('name', ['a b', 'a/b', 'a:b', ''])
def test_a_factorys_name_is_one_token(name: str) -> None:
    with pytest.raises(ConfigError, match='single token'):
        generate_middleware(dict, name=name)


# ── static: layers fixed on a model, once ───────────────────────────────────────────────────────────────────────────


class TraceRetry(BaseMiddleware):
    """The document's static middleware: `transformParams`, `wrapGenerate` and `wrapStream`."""

    def __init__(self, trace_id: str) -> None:
        self.trace_id, self.chunks = trace_id, [0]

    async def transform_params(self, params, ctx):
        options = {**params.request.provider_options, 'traceRetry': {'traceId': self.trace_id}}
        return params.replace(request=params.request.replace(provider_options=options))

    async def wrap_model(self, params, ctx, next_fn):
        for attempt in (1, 2):
            try:
                return await next_fn(params.replace(attempt=attempt), ctx)
            except LamellaError:
                await ctx.clock.sleep(2**attempt * 0.1)
        return await next_fn(params.replace(attempt=3), ctx)

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            self.chunks[0] += 1
            yield part


async def test_wrap_once_reuse_everywhere() -> None:
    model = ScriptedModel(['one', 'two'], name='anthropic/claude')
    traced = wrap_language_model(model=model, middleware=TraceRetry('infra-001'))
    app = world({'m': ['never asked']})
    assert (await app.ai.generate(model=traced, prompt='Explain quantum entanglement.')).text == 'one'
    assert (await app.ai.generate(model=traced, prompt='Again.')).text == 'two'


async def test_transform_params_runs_before_execution_and_leaves_the_response_alone() -> None:
    model = ScriptedModel(['whole', 'streamed'])
    traced = wrap_language_model(model=model, middleware=[TraceRetry('infra-001')])
    app = world({'m': ['never asked']})
    whole = await app.ai.generate(model=traced, prompt='hi')
    streamed = app.ai.generate_stream(model=traced, prompt='hi')
    assert (whole.text, (await streamed.response).text) == ('whole', 'streamed')
    assert [request.provider_options for request in model.requests] == [{'traceRetry': {'traceId': 'infra-001'}}] * 2


async def test_a_static_layer_retries_what_a_call_never_sees() -> None:
    model = ScriptedModel([fails('UNAVAILABLE'), fails('INTERNAL'), 'third time'])
    app = world({'m': ['never asked']})
    response = await app.ai.generate(model=wrap_language_model(model=model, middleware=TraceRetry('t')), prompt='hi')
    assert (response.text, len(model.requests), app.clock.slept) == ('third time', 3, [0.2, 0.4])


async def test_a_static_layer_sees_every_part_of_a_stream() -> None:
    layer = TraceRetry('t')
    model = ScriptedModel([[TextDelta('a'), TextDelta('b'), TextDelta('c'), Finished()]])
    app = world({'m': ['never asked']})
    stream = app.ai.generate_stream(model=wrap_language_model(model=model, middleware=layer), prompt='hi')
    assert [piece async for piece in stream.text_stream] == ['a', 'b', 'c']
    assert layer.chunks[0] == 5  # the start, three pieces of text, the end


async def test_outer_layers_run_first_on_entry_and_last_on_exit_and_static_ones_are_innermost() -> None:
    trace: list[str] = []

    def layer(label: str) -> BaseMiddleware:
        async def wrap(self, params, ctx, next_fn):
            trace.append(f'{label} in')
            response = await next_fn(params, ctx)
            trace.append(f'{label} out')
            return response

        return type(label, (BaseMiddleware,), {'wrap_model': wrap})()

    model = wrap_language_model(model=ScriptedModel(['hi']), middleware=[layer('static 1'), layer('static 2')])
    app = world({'m': ['never asked']}, use=[layer('app')])
    await app.ai.generate(model=model, prompt='hi', use=[layer('call')])
    order = ['app', 'call', 'static 1', 'static 2']
    assert trace == [f'{label} in' for label in order] + [f'{label} out' for label in reversed(order)]


async def test_a_model_may_be_wrapped_by_its_name() -> None:
    app = world({'a': [fails('UNAVAILABLE'), 'second try']})
    named = wrap_language_model(model='googleai/a', middleware=TraceRetry('t'))
    assert (await app.ai.generate(model=named, prompt='hi')).text == 'second try'


async def test_a_wrapped_model_may_be_a_fallback() -> None:
    wrapped = wrap_language_model(
        model=ScriptedModel([fails('INTERNAL'), 'from the wrapped one']), middleware=TraceRetry('t')
    )
    app = world({'a': [fails('UNAVAILABLE')]})
    assert (await app.ai.generate(prompt='hi', use=[Fallback(models=[wrapped])])).text == 'from the wrapped one'
