"""`OTelMiddleware`: whole trees whatever happens, nothing that was not asked for, and no call that waits for a tracer."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lamella import Lamella, ModelRequest, ModelResponse, restart_tool, wrap_language_model
from lamella.core.clock import SYSTEM_CLOCK
from lamella.middleware import BaseMiddleware, CostTracking, Fallback, OTelMiddleware, Retry, ToolApproval
from lamella.plugins.openai import OpenAI
from lamella.simulator import Fault, Simulator
from lamella.testing import FakeClock
from lamella.types import ConfigError, Finished, LamellaError, TextDelta, ToolRequest, Usage
from tests.middleware.kit import down, world

USAGE = Usage(10, 5, 15, reasoning_tokens=2, cached_tokens=4)


class InOrder(SpanProcessor):
    """Notes spans as they begin: on a fake clock all of them may begin at once."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.begun.append(span.get_span_context().span_id)


class Traces:
    """A tracer whose spans stay here, and what can be asked of them."""

    def __init__(self, *exporters: SpanExporter) -> None:
        self.memory = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.order = InOrder()
        self.provider.add_span_processor(self.order)
        for exporter in exporters or (self.memory,):
            self.provider.add_span_processor(SimpleSpanProcessor(exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def layer(self, **options: Any) -> OTelMiddleware:
        self.last = OTelMiddleware(tracer=self.provider, meter=self.meters, **options)
        return self.last

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        assert self.last.flush()
        return sorted(self.memory.get_finished_spans(), key=lambda span: self.order.begun.index(span.context.span_id))

    def tree(self) -> list[Any]:
        """Nested lists of names, in the order of their beginning. Fails unless there is one whole tree."""
        spans = self.spans
        ids = {span.context.span_id for span in spans}
        roots = [span for span in spans if span.parent is None or span.parent.span_id not in ids]
        assert len(roots) == 1, [span.name for span in roots]
        for span in spans:
            assert span.end_time is not None
            parent = next((one for one in spans if span.parent and one.context.span_id == span.parent.span_id), None)
            if parent is not None:
                assert parent.start_time <= span.start_time <= span.end_time <= parent.end_time

        def under(span: ReadableSpan) -> list[Any]:
            inside = [one for one in spans if one.parent and one.parent.span_id == span.context.span_id]
            return [span.name, *[under(one) for one in inside]]

        return under(roots[0])

    def named(self, beginning: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith(beginning)]

    def metric(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def traces() -> Iterator[Traces]:
    found = Traces()
    yield found
    found.provider.shutdown()
    found.meters.shutdown()


def answer(text: str = 'hi', usage: Usage = USAGE) -> list[Any]:
    return [TextDelta(text), Finished('stop', usage, 'm-1', 'id-1')]


async def run(ai: Lamella, streamed: bool, **options: Any) -> Any:
    if streamed:
        return await ai.generate_stream(**options).response
    return await ai.generate(**options)


both = pytest.mark.parametrize('streamed', [False, True])


@both
async def test_a_run_with_tools_and_retries_is_one_tree(traces: Traces, streamed: bool) -> None:
    async def look(city: str) -> str:
        return f'sun in {city}'

    asks = [ToolRequest('look', {'city': 'Rome'}, 'c1'), ToolRequest('look', {'city': 'Oslo'}, 'c2')]
    turn = [*asks, Finished('tool_calls', USAGE)]
    app = world({'v/a': [down(), turn, answer()]})
    await run(app.ai, streamed, prompt='hi', tools=[look], use=[traces.layer(), Retry(initial_delay_ms=0)])
    assert traces.tree() == [
        'run v/a',
        ['turn 0', ['chat a'], ['chat a'], ['execute_tool look'], ['execute_tool look']],
        ['turn 1', ['chat a']],
    ]
    failed, asked, last = traces.named('chat')
    assert (failed.attributes['error.type'], failed.status.is_ok) == ('UNAVAILABLE', False)
    assert last.attributes['gen_ai.usage.input_tokens'] == 10
    assert [span.attributes['lamella.attempt'] for span in (failed, asked, last)] == [1, 2, 1]
    (turn_span,) = traces.named('turn 0')
    assert [event.name for event in turn_span.events] == ['retry.wait']


async def test_attributes_are_those_of_the_conventions(traces: Traces) -> None:
    app = world({'googleai/a': [answer()]})
    await app.ai.generate(
        prompt='hi', config={'temperature': 0.5, 'max_output_tokens': 9, 'stop_sequences': ['x']}, use=[traces.layer()]
    )
    (call,) = traces.named('chat')
    attributes = dict(call.attributes)
    assert attributes == {
        'gen_ai.operation.name': 'chat',
        'gen_ai.provider.name': 'gcp.gemini',
        'gen_ai.request.model': 'a',
        'gen_ai.request.temperature': 0.5,
        'gen_ai.request.max_tokens': 9,
        'gen_ai.request.stop_sequences': ('x',),
        'gen_ai.response.model': 'm-1',
        'gen_ai.response.id': 'id-1',
        'gen_ai.response.finish_reasons': ('stop',),
        'gen_ai.usage.input_tokens': 10,
        'gen_ai.usage.output_tokens': 5,
        'gen_ai.usage.cache_read.input_tokens': 4,
        'gen_ai.usage.reasoning.output_tokens': 2,
        'lamella.attempt': 1,
        'lamella.call': 1,
    }
    assert call.kind is trace.SpanKind.CLIENT
    (root,) = traces.named('run')
    assert root.attributes['lamella.stop_reason'] == 'final'


async def test_times_are_those_of_the_wall_clock(traces: Traces) -> None:
    class Slow(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            await ctx.clock.sleep(3)
            return await next_fn(params, ctx)

    clock = FakeClock(wall=1_900_000_000.0)
    app = world({'v/a': [answer()]}, clock=clock)
    await app.ai.generate(prompt='hi', use=[traces.layer(), Slow()])
    (root,) = traces.named('run')
    assert root.start_time == 1_900_000_000 * 10**9
    assert root.end_time - root.start_time == 3 * 10**9


@both
async def test_calls_at_once_have_a_span_each_and_the_one_that_lost_ends_too(traces: Traces, streamed: bool) -> None:
    started = asyncio.Event()

    async def slow(request: ModelRequest, ctx: Any) -> ModelResponse:
        started.set()
        return await asyncio.Future()

    class Race(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            loser = asyncio.create_task(next_fn(params.replace(model=ctx.ai.resolve_model(slow)), ctx))
            await started.wait()
            response = await next_fn(params, ctx)
            loser.cancel()
            await asyncio.wait([loser])
            return response

    app = world({'v/a': [answer()]})
    await run(app.ai, streamed, prompt='hi', use=[traces.layer(), Race()])
    tree = traces.tree()
    assert sorted(name for (name,) in tree[1][1:]) == ['chat a', 'chat slow']
    (lost,) = traces.named('chat slow')
    assert lost.attributes['lamella.left'] == 'cancelled'


async def test_a_stream_that_is_left_half_way_is_a_whole_tree(traces: Traces) -> None:
    app = world({'v/a': [[TextDelta('a'), TextDelta('b'), Finished()]]})
    async with app.ai.generate_stream(prompt='hi', use=[traces.layer()]) as stream:
        async for part in stream:
            if type(part) is TextDelta:
                break
    assert traces.tree() == ['run v/a', ['turn 0', ['chat a']]]
    (call,) = traces.named('chat')
    assert call.attributes['lamella.left'] == 'left'
    assert call.attributes['gen_ai.response.time_to_first_chunk'] == 0


@both
async def test_a_cancelled_run_is_a_whole_tree(traces: Traces, streamed: bool) -> None:
    asked = asyncio.Event()

    async def never(request: ModelRequest, ctx: Any) -> ModelResponse:
        asked.set()
        return await asyncio.Future()

    ai = Lamella(model=never)
    task = asyncio.create_task(run(ai, streamed, prompt='hi', use=[traces.layer()]))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert traces.tree() == ['run never', ['turn 0', ['chat never']]]
    assert traces.named('run')[0].attributes['error.type'] == 'CancelledError'


@both
async def test_a_failed_tool_ends_its_siblings_spans(traces: Traces, streamed: bool) -> None:
    waits = asyncio.Event()

    async def hangs() -> str:
        waits.set()
        return await asyncio.Future()

    async def breaks() -> str:
        await waits.wait()
        raise ZeroDivisionError

    app = world({'v/a': [[ToolRequest('hangs', {}, 'c1'), ToolRequest('breaks', {}, 'c2')]]})
    with pytest.raises(ZeroDivisionError):
        await run(app.ai, streamed, prompt='hi', tools=[hangs, breaks], use=[traces.layer()])
    assert traces.tree()[1][1:] == [['chat a'], ['execute_tool hangs'], ['execute_tool breaks']]
    errors = {span.name: span.attributes['error.type'] for span in traces.named('execute_tool')}
    assert errors == {'execute_tool hangs': 'CancelledError', 'execute_tool breaks': 'ZeroDivisionError'}


@both
async def test_spans_of_tools_are_inside_of_the_tools_also_in_threads(traces: Traces, streamed: bool) -> None:
    tracer = traces.provider.get_tracer('mine')

    def in_a_thread() -> str:
        with tracer.start_as_current_span('mine sync'):
            return 'x'

    async def in_the_loop() -> str:
        with tracer.start_as_current_span('mine async'):
            await asyncio.sleep(0)
            return 'y'

    ask = [ToolRequest('in_a_thread', {}, 'c1'), ToolRequest('in_the_loop', {}, 'c2')]
    app = world({'v/a': [ask, [ToolRequest('in_a_thread', {}, 'c3')], answer()]}, clock=SYSTEM_CLOCK)
    with tracer.start_as_current_span('caller') as caller:
        await run(app.ai, streamed, prompt='hi', tools=[in_a_thread, in_the_loop], use=[traces.layer()])
        assert trace.get_current_span() is caller
    tree = traces.tree()
    assert (tree[0], tree[1][0]) == ('caller', 'run v/a')
    first, second, _ = tree[1][1:]
    assert first[2:] == [['execute_tool in_a_thread', ['mine sync']], ['execute_tool in_the_loop', ['mine async']]]
    assert second[2:] == [['execute_tool in_a_thread', ['mine sync']]]


@both
async def test_a_model_call_carries_the_name_of_its_own_span(traces: Traces, streamed: bool) -> None:
    async with Simulator(faults=[Fault('status', status=503, times=1)]) as sim:
        plugin = OpenAI(api_key='k', base_url=f'{sim.base_url}/v1')
        async with Lamella(plugins=[plugin], model='openai/m') as ai:
            await run(ai, streamed, prompt='hi', use=[traces.layer(), Retry(initial_delay_ms=0)])
        sent = [request.headers['traceparent'] for request in sim.requests]
    calls = [span.context for span in traces.named('chat')]
    assert sent == [f'00-{call.trace_id:032x}-{call.span_id:016x}-{call.trace_flags:02x}' for call in calls]
    assert len(set(sent)) == 2


@both
async def test_a_resumed_run_is_linked_to_the_one_that_was_interrupted(traces: Traces, streamed: bool) -> None:
    def send() -> str:
        return 'sent'

    use = [traces.layer(), ToolApproval()]
    first = world({'v/a': [[ToolRequest('send', {}, 'c1')]]})
    response = await run(first.ai, streamed, prompt='hi', tools=[send], use=use)
    (waiting,) = traces.named('execute_tool')
    traces.memory.clear()
    elsewhere = world({'v/a': [answer()]})
    approved = [restart_tool(response.interrupts[0], metadata={'toolApproved': True})]
    await run(elsewhere.ai, streamed, messages=response.messages, resume_restart=approved, tools=[send], use=use)
    assert traces.tree() == ['run v/a', ['execute_tool send'], ['turn 0', ['chat a']]]
    (root,) = traces.named('run')
    assert [link.context.span_id for link in root.links] == [waiting.context.span_id]
    assert root.context.trace_id != waiting.context.trace_id


# ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def everything(spans: Sequence[ReadableSpan]) -> str:
    return repr(
        [(span.name, dict(span.attributes), [(e.name, dict(e.attributes)) for e in span.events]) for span in spans]
    )


@both
async def test_content_is_recorded_only_when_asked_and_without_credentials(traces: Traces, streamed: bool) -> None:
    def look(key: str) -> str:
        return 'seen'

    secret = 'sk-proj-abcdefgh12345678'
    script = [[ToolRequest('look', {'key': secret}, 'c1')], answer(f'my {secret} answer')]
    options: dict[str, Any] = {'prompt': f'ask with {secret}', 'system': 'be kind', 'tools': [look]}
    await run(world({'v/a': script}).ai, streamed, **options, use=[traces.layer()])
    told = everything(traces.spans)
    assert [word in told for word in ('ask with', 'be kind', 'answer', secret)] == [False] * 4
    traces.memory.clear()
    await run(world({'v/a': script}).ai, streamed, **options, use=[traces.layer(capture_content=True)])
    told = everything(traces.spans)
    assert [word in told for word in ('ask with', 'be kind', 'answer', 'tool_call_response')] == [True] * 4
    assert secret not in told


async def test_content_is_cut(traces: Traces) -> None:
    await world({'v/a': [answer('y' * 9_999)]}).ai.generate(
        prompt='x' * 9_999, use=[traces.layer(capture_content=True, max_chars=100)]
    )
    contents = [value for span in traces.spans for key, value in span.attributes.items() if key.endswith('messages')]
    assert [len(value) for value in contents] == [100, 100]


# ── measurements ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_measurements_of_calls_tokens_cost_and_decisions(traces: Traces) -> None:
    app = world({'v/a': [down(), down()], 'v/b': [answer()]})
    prices = {'v/*': {'input_per_mtok': 1, 'output_per_mtok': 2}}
    use = [
        traces.layer(),
        CostTracking(prices=prices),
        Fallback(models=['v/b']),
        Retry(max_retries=1, initial_delay_ms=0),
    ]
    await app.ai.generate(prompt='hi', use=use)
    durations = traces.metric('gen_ai.client.operation.duration')
    by_model = {(p.attributes.get('gen_ai.request.model'), p.attributes.get('error.type')): p.count for p in durations}
    assert by_model == {('a', 'UNAVAILABLE'): 2, ('b', None): 1, (None, None): 1}
    tokens = {point.attributes['gen_ai.token.type']: point.sum for point in traces.metric('gen_ai.client.token.usage')}
    assert tokens == {'input': 10, 'output': 5}
    (cost,) = traces.metric('lamella.cost')
    assert cost.value == pytest.approx((10 + 5 * 2) / 1e6)
    assert [point.value for point in traces.metric('lamella.retries')] == [1]
    (switch,) = traces.metric('lamella.fallbacks')
    assert (switch.attributes['lamella.from_model'], switch.attributes['lamella.to_model']) == ('v/a', 'v/b')


# ── tracing that fails ──────────────────────────────────────────────────────────────────────────────────────────────


class Hangs(SpanExporter):
    """Waits until it is let go, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.let_go, self.error, self.asked = threading.Event(), error, 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.let_go.wait()
        return SpanExportResult.SUCCESS


@both
async def test_an_exporter_that_hangs_holds_up_no_call(streamed: bool) -> None:
    exporter = Hangs()
    traces = Traces(exporter)
    layer = traces.layer()
    app = world({'v/a': [answer()]}, repeat=True)
    for _ in range(20):
        assert (await run(app.ai, streamed, prompt='hi', use=[layer])).text == 'hi'
    assert layer.flush(0.01) is False
    exporter.let_go.set()
    assert layer.flush()
    assert exporter.asked == 20 * 3


@pytest.mark.filterwarnings('ignore')
async def test_an_exporter_that_fails_harms_no_call() -> None:
    exporter = Hangs(RuntimeError('disk full'))
    traces = Traces(exporter)
    layer = traces.layer()
    app = world({'v/a': [answer()]}, repeat=True)
    for _ in range(3):
        assert (await app.ai.generate(prompt='hi', use=[layer])).text == 'hi'
    assert layer.flush()
    assert exporter.asked == 9


async def test_what_the_exporter_cannot_keep_up_with_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('lamella.middleware._otel.MAX_QUEUED', 5)
    exporter = Hangs()
    traces = Traces(exporter)
    layer = traces.layer()
    layer._telemetry.worker._queue.maxsize = 5
    app = world({'v/a': [answer()]}, repeat=True)
    for _ in range(10):
        await app.ai.generate(prompt='hi', use=[layer])
    assert layer.dropped > 0
    exporter.let_go.set()
    assert layer.flush()


async def test_a_tracer_that_fails_harms_no_call() -> None:
    class Broken:
        def start_span(self, *args: Any, **options: Any) -> Any:
            raise RuntimeError('no spans today')

    app = world({'v/a': [answer()]}, repeat=True)
    layer = OTelMiddleware(tracer=Broken())
    assert (await app.ai.generate(prompt='hi', use=[layer])).text == 'hi'
    assert (await app.ai.generate_stream(prompt='hi', use=[layer]).response).text == 'hi'


# ── where it stands ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_told_once_to_a_tracer_however_often_the_layer_is_there(traces: Traces) -> None:
    tracer = traces.provider.get_tracer('lamella')
    one, two = OTelMiddleware(tracer=tracer), OTelMiddleware(tracer=tracer)
    traces.last = one
    await world({'v/a': [answer()]}).ai.generate(prompt='hi', use=[one, two, one])
    assert traces.tree() == ['run v/a', ['turn 0', ['chat a']]]


async def test_fixed_on_a_model_it_tells_of_the_calls_of_that_model(traces: Traces) -> None:
    app = world({'v/a': [answer()], 'v/b': [answer()]})
    fixed = wrap_language_model(model='v/a', middleware=traces.layer())
    await app.ai.generate(model=fixed, prompt='hi')
    assert [span.name for span in traces.named('chat')] == ['chat a']
    assert traces.named('run')[0].end_time is not None


@both
async def test_concurrent_runs_do_not_mix(traces: Traces, streamed: bool) -> None:
    app = world({'v/a': [answer()]}, repeat=True)
    layer = traces.layer()
    await asyncio.gather(*[run(app.ai, streamed, prompt='hi', use=[layer]) for _ in range(30)])
    by_trace: dict[int, list[str]] = {}
    for span in traces.spans:
        by_trace.setdefault(span.context.trace_id, []).append(span.name)
    assert [sorted(names) for names in by_trace.values()] == [['chat a', 'run v/a', 'turn 0']] * 30


async def test_embeddings_are_told_too(traces: Traces) -> None:
    async def vectors(request: Any, ctx: Any) -> list[list[float]]:
        return [[1.0] for _ in request.texts]

    await Lamella(embedding_model=vectors, use=[traces.layer()]).embed(['a', 'b'])
    assert [span.name for span in traces.spans] == ['run embed vectors', 'embeddings vectors']


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'tracer': 3}, 'tracer: .*is a int: give a tracer of OpenTelemetry'),
        ({'meter': 'x'}, 'meter: .*is a str: give a meter of OpenTelemetry'),
        ({'max_chars': 3}, 'max_chars'),
    ],
)
def test_wrong_settings_are_found_when_it_is_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        OTelMiddleware(**options)


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name='opentelemetry')

    monkeypatch.setattr('importlib.import_module', absent)
    with pytest.raises(ConfigError, match=r"pip install 'lamella\[otel\]'"):
        OTelMiddleware()


# ── over the wire ───────────────────────────────────────────────────────────────────────────────────────────────────


class Collector:
    """An OTLP server that keeps what it receives."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        keep = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers['content-length']))
                keep.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(('127.0.0.1', 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> 'Collector':
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def endpoint(self) -> str:
        return f'http://127.0.0.1:{self.server.server_port}/v1/traces'


async def test_a_collector_receives_the_tree_over_otlp() -> None:
    with Collector() as collector:
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=collector.endpoint)))
        layer = OTelMiddleware(tracer=provider)
        app = world({'v/a': [down(), answer()]})
        await app.ai.generate(prompt='hi', use=[layer, Retry(initial_delay_ms=0)])
        assert layer.flush()
        assert provider.force_flush()
        provider.shutdown()
    scopes = [
        scope for request in collector.requests for resource in request.resource_spans for scope in resource.scope_spans
    ]
    spans = {span.span_id: span for scope in scopes for span in scope.spans}
    assert sorted(span.name for span in spans.values()) == ['chat a', 'chat a', 'run v/a', 'turn 0']
    assert {scope.schema_url for scope in scopes} == {'https://opentelemetry.io/schemas/1.41.0'}
    (root,) = [span for span in spans.values() if not span.parent_span_id]
    (turn,) = [span for span in spans.values() if span.parent_span_id == root.span_id]
    calls = [span for span in spans.values() if span.parent_span_id == turn.span_id]
    assert [(root.name, turn.name, len(calls))] == [('run v/a', 'turn 0', 2)]
    assert [event.name for event in turn.events] == ['retry.wait']
    assert sorted(call.status.code for call in calls) == [0, 2]


async def test_the_error_of_a_run_is_its_spans_status(traces: Traces) -> None:
    app = world({'v/a': [down(message='the key sk-proj-abcdefgh12345678 is bad')]})
    with pytest.raises(LamellaError):
        await app.ai.generate(prompt='hi', use=[traces.layer()])
    (root,) = traces.named('run')
    assert root.status.description == 'UNAVAILABLE: the key *** is bad'
