"""The six pitfalls of the second seed, each with what shows that Lamella does not have it (docs/static.md tells them)."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from lamella import Lamella, LamellaError, Stack, restart_tool, wrap_language_model, wrap_provider
from lamella.integrations.httpx2 import LamellaTransport
from lamella.middleware import BaseMiddleware, Fallback, Retry, ToolApproval, generate_middleware
from lamella.plugins.anthropic import Anthropic
from lamella.plugins.google_genai import GoogleAI
from lamella.plugins.openai import OpenAI
from lamella.simulator import Answer, Fault, Simulator
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ConfigError, ResponseStarted, TextDelta, ToolRequest
from tests.engine.kit import no_leaks
from tests.integrations.clients import clients


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


# ── 1. Static/Dynamic Context Mismatch ──────────────────────────────────────────────────────────────────────────────


class Quota(BaseMiddleware):
    """Goes by the tenant of the call, and stands on a model that was made once."""

    async def wrap_model(self, params, ctx, next_fn):
        tenant = ctx.context['tenant']
        used = await ctx.store.add(f'quota:{tenant}', 1, ceiling=2)
        if not used.added:
            raise LamellaError('RESOURCE_EXHAUSTED', f'{tenant} has used its calls')
        request = params.request.replace(metadata={'tenant': tenant})
        return await next_fn(params.replace(request=request), ctx)


async def test_1_what_belongs_to_a_request_reaches_a_model_that_was_wrapped_once() -> None:
    inner = ScriptedModel([lambda request: request.messages[0].text], repeat=True)
    model = wrap_language_model(model=inner, middleware=Quota())
    state = dict(vars(model)), dict(vars(model.stack.layers[0]))
    ai = Lamella(model=model)
    tenants = [f'tenant {n}' for n in range(20)] * 2
    whole = [ai.generate(prompt=t, context={'tenant': t}) for t in tenants[:20]]
    streamed = [ai.generate_stream(prompt=t, context={'tenant': t}).response for t in tenants[20:]]
    answers = await asyncio.gather(*whole, *streamed)
    assert [answer.text for answer in answers] == tenants
    assert sorted((r.messages[0].text, r.metadata['tenant']) for r in inner.requests) == sorted((t, t) for t in tenants)
    with pytest.raises(LamellaError, match='tenant 7 has used its calls'):
        await ai.generate(prompt='x', context={'tenant': 'tenant 7'})
    assert (dict(vars(model)), dict(vars(model.stack.layers[0]))) == state  # nothing of a call is kept on either


# ── 2. Streaming Backpressure Blind Spot ────────────────────────────────────────────────────────────────────────────


class ModelHook(BaseMiddleware):
    async def wrap_model(self, params, ctx, next_fn):
        return await next_fn(params, ctx)


class StreamHook(BaseMiddleware):
    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            yield part


@pytest.mark.parametrize('use', [[ModelHook()], [StreamHook()], [ModelHook(), StreamHook(), ModelHook()], [Retry()]])
@pytest.mark.parametrize('static', [False, True])
async def test_2_nothing_is_read_from_the_model_before_the_reader_asks(use: list[Any], static: bool) -> None:
    """The model hook, which knows nothing of parts, hands them on one by one; a slow reader slows the model."""
    inner = ScriptedModel([[TextDelta(str(n)) for n in range(1000)]])
    model: Any = wrap_language_model(model=inner, middleware=use) if static else inner
    ai = Lamella(model=model, use=[] if static else use)
    async with no_leaks():
        stream = ai.generate_stream(prompt='hi')
        parts, read = aiter(stream), 0
        async for _ in parts:
            read += 1
            assert inner.pulled <= read + 1
            await asyncio.sleep(0)  # a reader who takes his time
            if read == 100:
                break
        assert inner.pulled <= 101
        await stream.aclose()
    assert inner.closed == 1


async def test_2_a_reader_who_does_not_read_stops_the_provider_over_http(sim: Simulator) -> None:
    sim.use(answers=[Answer(text=['word ' * 2000] * 500)])
    async with Lamella(plugins=[OpenAI(base_url=f'{sim.base_url}/v1')]) as ai:
        model = wrap_language_model(model='openai/m', middleware=[ModelHook(), StreamHook()])
        stream = ai.generate_stream(prompt='hi', model=model, use=[ModelHook()])
        parts = aiter(stream)
        assert type(await anext(parts)) is ResponseStarted
        await sim.requests[0].blocked  # five million characters wait at the provider and not here
        assert sim.requests[0].parts_sent < 500
        await stream.aclose()


async def test_2_a_layer_controls_each_part_it_waits_samples_and_stops() -> None:
    log: list[str] = []

    class Controls(BaseMiddleware):
        """Every second part, a pause before each, and no more than three."""

        async def wrap_stream(self, params, ctx, next_fn):
            shown = 0
            async for part in next_fn(params, ctx):
                if type(part) is not TextDelta:
                    yield part
                    continue
                if int(part.text) % 2 or shown == 3:
                    continue
                await ctx.clock.sleep(1)
                log.append(part.text)
                shown += 1
                yield part

    clock = FakeClock()
    model = wrap_language_model(model=ScriptedModel([[TextDelta(str(n)) for n in range(10)]]), middleware=Controls())
    stream = Lamella(model=model, clock=clock).generate_stream(prompt='hi')
    assert [piece async for piece in stream.text_stream] == log == ['0', '2', '4']
    assert clock.slept == [1, 1, 1]


# ── 3. Zod Schema Rigidity vs Loose Options ─────────────────────────────────────────────────────────────────────────


class InterceptorConfig(BaseModel):
    trace_id: str = Field(min_length=1)
    max_retries: int = Field(default=3, ge=1, le=5)


@generate_middleware(name='interceptor', config_schema=InterceptorConfig)
def interceptor(config: InterceptorConfig) -> dict[str, Any]:
    async def model(params, ctx, next_fn):
        return await next_fn(params, ctx)

    async def tool(params, ctx, next_fn):
        return await next_fn(params, ctx)

    return {'model': model, 'tool': tool}


def calls_of(work: Any) -> int:
    """How many Python functions are called: what does not depend on the machine."""
    count = 0

    def called(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == 'call'

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_3_a_layer_that_is_built_for_every_request_is_checked_and_costs_next_to_nothing() -> None:
    interceptor(trace_id='first')
    assert calls_of(lambda: interceptor(trace_id='t', max_retries=2)) <= 25
    for wrong in ({'trace_id': ''}, {'trace_id': 't', 'max_retries': 9}, {'traceId': 't'}):
        with pytest.raises(ConfigError):
            interceptor(**wrong)


async def test_3_a_list_of_layers_that_is_kept_is_folded_once() -> None:
    ai = Lamella(model=ScriptedModel(['x'], repeat=True))
    kept = [interceptor(trace_id='t'), Retry()]
    assert ai.stacks.of(kept) is ai.stacks.of(list(kept))
    assert ai.stacks.of(kept).model is ai.stacks.of(kept).model
    await ai.generate(prompt='x', use=kept)


@pytest.mark.parametrize(
    ('options', 'right'),
    [
        ({'opnai': {'user': 'u'}}, "'openai'"),
        ({'openai': {'usr': 'u'}}, "'user'"),
        ({'openai': {'logit_bias': 'none'}}, 'logit_bias'),
    ],
)
async def test_3_a_misspelled_provider_option_is_an_error_and_no_loss(options: Any, right: str, sim: Simulator) -> None:
    async with Lamella(plugins=[OpenAI(base_url=f'{sim.base_url}/v1')]) as ai:
        with pytest.raises(ConfigError, match=right):
            await ai.generate(prompt='hi', model='openai/m', provider_options=options)
    assert list(sim.requests) == []


async def test_3_a_misspelled_option_of_the_call_is_an_error_too() -> None:
    with pytest.raises(ConfigError, match="'provider_options'"):
        await Lamella(model=ScriptedModel(['x'])).generate(prompt='hi', provider_option={})  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="'temperature'"):
        await Lamella(model=ScriptedModel(['x'])).generate(prompt='hi', config={'temprature': 1})


# ── 4. Tools are no part of the model's contract ────────────────────────────────────────────────────────────────────

deleted: list[str] = []


def delete(path: str) -> str:
    """Delete a file."""
    deleted.append(path)
    return 'gone'


def test_4_a_gate_for_tools_on_a_model_is_refused_instead_of_never_acting() -> None:
    with pytest.raises(ConfigError, match=r'ToolApproval\(\) would never act: fixed on a model'):
        wrap_language_model(model=ScriptedModel(), middleware=[Retry(), ToolApproval()])
    with pytest.raises(ConfigError, match='would never act'):
        wrap_provider(OpenAI(), ToolApproval())


async def test_4_tools_have_a_hook_of_their_own_beside_a_wrapped_model() -> None:
    deleted.clear()
    model = wrap_language_model(
        model=ScriptedModel([ToolRequest('delete', {'path': '/x'}, 'r-1'), 'done']), middleware=[ModelHook()]
    )
    ai = Lamella(model=model, use=[ToolApproval()])
    waiting = await ai.generate(prompt='delete /x', tools=[delete])
    assert (len(waiting.interrupts), deleted) == (1, [])
    done = await ai.generate(
        messages=waiting.messages,
        tools=[delete],
        resume_restart=[restart_tool(waiting.interrupts[0], metadata={'toolApproved': True})],
    )
    assert (done.text, deleted) == ('done', ['/x'])


# ── 5. Composition Order Confusion ──────────────────────────────────────────────────────────────────────────────────


class Log(BaseMiddleware):
    def __init__(self, label: str, log: list[str]) -> None:
        self.label, self.log = label, log

    def __repr__(self) -> str:
        return f'Log({self.label})'

    async def wrap_model(self, params, ctx, next_fn):
        self.log.append(f'{self.label} in')
        try:
            return await next_fn(params, ctx)
        finally:
            self.log.append(f'{self.label} out')


@pytest.mark.parametrize('streamed', [False, True])
async def test_5_outer_layers_run_first_on_entry_and_last_on_exit_wherever_they_are(streamed: bool) -> None:
    log: list[str] = []
    model = wrap_language_model(model=ScriptedModel(['x']), middleware=[Log('static 1', log), Log('static 2', log)])
    ai = Lamella(model=model, use=[Log('app', log)])
    call = (
        ai.generate_stream(prompt='hi', use=[Log('call', log)]).response
        if streamed
        else ai.generate(prompt='hi', use=[Log('call', log)])
    )
    await call
    order = ['app', 'call', 'static 1', 'static 2']
    assert log == [f'{label} in' for label in order] + [f'{label} out' for label in reversed(order)]


async def test_5_infrastructure_outside_and_business_inside_is_what_each_attempt_shows() -> None:
    for outside, expected in ((True, ['in', 'out'] * 2), (False, ['in', 'out'])):
        log: list[str] = []
        model = ScriptedModel([LamellaError('UNAVAILABLE', 'down'), 'x'])
        layers = [Retry(no_jitter=True), Log('log', log)] if outside else [Log('log', log), Retry(no_jitter=True)]
        await Lamella(model=model, clock=FakeClock()).generate(prompt='hi', use=layers)
        assert log == [f'log {step}' for step in expected]


def test_5_the_order_can_be_printed_and_an_order_that_cannot_work_is_refused() -> None:
    log: list[str] = []
    stack = Stack([Log('outer', log), Log('inner', log)])
    assert stack.explain().splitlines() == [
        'Log(outer)  [wrap_model]',
        '  Log(inner)  [wrap_model]',
        '    model call',
    ]
    model = wrap_language_model(model='openai/gpt-4o', middleware=stack)
    assert model.explain().splitlines()[-1].strip() == 'openai/gpt-4o'


# ── 6. Multi-Language Portability Assumption ────────────────────────────────────────────────────────────────────────


async def test_6_one_layer_serves_every_vendor_static_and_dynamic(sim: Simulator) -> None:
    """The contract knows no vendor's types: the same instance stands on four protocols, on a function, and around calls."""
    seen: list[str] = []

    class Watches(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            response = await next_fn(params, ctx)
            seen.append(params.model.provider)
            return response

    layer = Watches()
    url = sim.base_url
    plugins = [
        OpenAI(base_url=f'{url}/v1'),
        OpenAI(name='responses', base_url=f'{url}/v1', api='responses'),
        Anthropic(base_url=url),
        GoogleAI(base_url=url),
    ]
    async with Lamella(plugins=[wrap_provider(plugin, layer) for plugin in plugins]) as ai:
        for name in ('openai', 'responses', 'anthropic', 'googleai'):
            stream = ai.generate_stream(prompt='Bees fly.', model=f'{name}/m', use=[layer])
            assert 'Bees fly.' in (await stream.response).text
    assert seen == [name for name in ('openai', 'responses', 'anthropic', 'googleai') for _ in range(2)]


async def test_6_the_same_layers_work_at_the_protocol_under_a_client_that_knows_nothing_of_them(sim: Simulator) -> None:
    """Any program that speaks a vendor's protocol, whatever it is written in or with, passes through them there."""
    sim.use(faults=[Fault('status', status=503, model='first*')])
    layers = [Fallback(models=['openai/second']), Retry(max_retries=1, initial_delay_ms=0)]
    async with clients(sim.base_url, LamellaTransport(use=layers)) as vendors:
        client: openai.AsyncOpenAI = vendors.gpt
        answer = await client.chat.completions.create(
            model='first', messages=[{'role': 'user', 'content': 'Bees fly.'}]
        )
    assert 'Bees fly.' in (answer.choices[0].message.content or '')
    assert [request.model for request in sim.requests] == ['first', 'first', 'second']
