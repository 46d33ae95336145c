"""Spans and measurements through OpenTelemetry. The one module that imports it (the extra `otel`).

Spans begin in the call, which needs their ids; everything else is done by a thread of its own with a bounded queue, so that
an exporter that is slow, fails or hangs never holds up a call.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from lamella.core.spans import Kind
from lamella.middleware import _gen_ai as names

MAX_QUEUED = 10_000
LAST_WAIT_S = 2.0
_KINDS = {'model': SpanKind.CLIENT, 'embedding': SpanKind.CLIENT}
_Work = Callable[[], None]


class Worker:
    """Does what it is given in a thread, in order. What finds the queue full is dropped and counted."""

    def __init__(self, limit: int = MAX_QUEUED) -> None:
        self.dropped = 0
        self._queue: queue.Queue[_Work | None] = queue.Queue(limit)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def give(self, work: _Work) -> None:
        if self._thread is None:
            self._start()
        try:
            self._queue.put_nowait(work)
        except queue.Full:
            self.dropped += 1

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was given so far is done. False when that took too long."""
        if self._thread is None:
            return True
        done = threading.Event()
        try:
            self._queue.put(done.set, timeout=timeout_s)
        except queue.Full:
            return False
        return done.wait(timeout_s)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name='lamella-otel', daemon=True)
                self._thread.start()
                atexit.register(self.flush, LAST_WAIT_S)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            with suppress(Exception):  # an exporter that fails is nobody's concern but its own
                work()


class Open:
    """A span that is under way, and what its end will want to know."""

    __slots__ = ('begun_s', 'context', 'kind', 'model', 'span')

    def __init__(self, span: Span, kind: Kind, context: Any, begun_s: float, model: str) -> None:
        self.span, self.kind, self.context, self.begun_s, self.model = span, kind, context, begun_s, model


class OTelWriter:
    """Writes the spans of one run. `offset_s` makes wall time of the run's clock; `outgoing` is told the headers of each
    model call that begins."""

    def __init__(
        self,
        telemetry: Telemetry,
        parent: Any,
        offset_s: float,
        outgoing: Callable[[Mapping[str, str]], None],
        links: Sequence[Link] = (),
    ) -> None:
        self._telemetry, self._parent, self._offset_s, self._outgoing = telemetry, parent, offset_s, outgoing
        self._links = tuple(links)

    def begin(self, kind: Kind, name: str, parent: Open | None, at_s: float, facts: Mapping[str, Any]) -> Open:
        telemetry = self._telemetry
        context = self._parent if parent is None else parent.context
        links = [*self._links, *_links(facts)] if parent is None else None
        span = telemetry.tracer.start_span(
            names.span_name(kind, name),
            context=context,
            kind=_KINDS.get(kind, SpanKind.INTERNAL),
            attributes=names.beginning(kind, facts, telemetry.capture),
            links=links,
            start_time=self._ns(at_s),
            record_exception=False,
            set_status_on_exception=False,
        )
        opened = Open(span, kind, trace.set_span_in_context(span, context), at_s, str(facts.get('model', '')))
        if kind == 'model' and span.get_span_context().is_valid:
            headers: dict[str, str] = {}
            propagate.inject(headers, context=opened.context)
            self._outgoing(headers)
        return opened

    def note(self, span: Open, name: str, at_s: float, facts: Mapping[str, Any]) -> None:
        if name == 'model.first_part':
            waited = facts['waited_s']
            self._telemetry.first_chunk(span, waited)
            if span.span.is_recording():
                self._later(span.span.set_attribute, 'gen_ai.response.time_to_first_chunk', waited)
            return
        self._telemetry.decision(name, facts)
        if span.span.is_recording():
            self._later(span.span.add_event, name, names.noted(facts), self._ns(at_s))

    def end(self, span: Open, at_s: float, facts: Mapping[str, Any], error: BaseException | None) -> None:
        self._telemetry.ended(span, at_s - span.begun_s, facts)
        if not span.span.is_recording():
            return
        attributes = names.ending(span.kind, facts, self._telemetry.capture)
        self._later(_finish, span.span, attributes, error, self._ns(at_s))

    def _later(self, act: Callable[..., Any], *arguments: Any) -> None:
        self._telemetry.worker.give(lambda: act(*arguments))

    def _ns(self, at_s: float) -> int:
        return int((at_s + self._offset_s) * 1e9)


def _finish(span: Span, attributes: Mapping[str, Any], error: BaseException | None, at_ns: int) -> None:
    span.set_attributes(dict(attributes))
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, names.cut(names.shown(str(error), 300), 300)))
    span.end(at_ns)


def _links(facts: Mapping[str, Any]) -> list[Link]:
    """To the spans of an interrupted run that this one goes on with."""
    found = []
    for traceparent in facts.get('resumes') or ():
        context = propagate.extract({'traceparent': str(traceparent)})
        span = trace.get_current_span(context).get_span_context()
        if span.is_valid:
            found.append(Link(span, {'lamella.link': 'resumes'}))
    return found


class Telemetry:
    """A tracer, the instruments, and the thread that works for them. One for each layer that traces."""

    def __init__(self, tracer: Any, meter: Any, capture: int) -> None:
        self.tracer = _tracer(tracer)
        self.capture = capture
        self.worker = Worker()
        meter = _meter(meter)
        make = meter.create_histogram
        self._duration = make('gen_ai.client.operation.duration', 's', 'How long operations took.')
        self._tokens = make('gen_ai.client.token.usage', '{token}', 'Tokens by type.')
        self._first = make(
            'gen_ai.client.operation.time_to_first_chunk', 's', 'The wait for the first part of an answer.'
        )
        self._cost = meter.create_counter('lamella.cost', 'USD', 'Dollars spent on model calls.')
        self._decisions = meter.create_counter('lamella.decisions', '{decision}', 'What layers decided, by event.')
        self._retries = meter.create_counter('lamella.retries', '{retry}', 'Attempts after the first.')
        self._fallbacks = meter.create_counter('lamella.fallbacks', '{switch}', 'Switches to another model.')
        self._queue = make('lamella.queue.time', 's', 'Waits for a place or a permit, before a call.')
        self._breaker = meter.create_gauge('lamella.breaker.state', '1', '0 closed, 1 half open, 2 open.')

    def first_chunk(self, span: Open, waited_s: float) -> None:
        self._first.record(waited_s, self._about(span))

    def ended(self, span: Open, took_s: float, facts: Mapping[str, Any]) -> None:
        if span.kind not in names.OPERATIONS:
            return
        about = self._about(span, facts)
        self._duration.record(took_s, about)
        usage = facts.get('usage')
        if usage is None or span.kind == 'run':
            return
        for kind, count in (('input', usage.input_tokens), ('output', usage.output_tokens)):
            if count is not None:
                self._tokens.record(count, {**about, 'gen_ai.token.type': kind})
        if usage.cost_usd is not None:
            self._cost.add(usage.cost_usd, about)

    def decision(self, name: str, facts: Mapping[str, Any]) -> None:
        layer, _, what = name.partition('.')
        self._decisions.add(1, {'lamella.event': name})
        if name == 'retry.wait':
            self._retries.add(1, _by_error(facts))
        elif name == 'fallback.switch':
            to = {'lamella.from_model': facts['from_model'], 'lamella.to_model': facts['to_model']}
            self._fallbacks.add(1, {**to, **_by_error(facts)})
        elif what in ('wait', 'waited') and isinstance(facts.get('wait_s'), (int, float)):
            self._queue.record(facts['wait_s'], {'lamella.layer': layer})
        elif layer == 'circuit_breaker' and what in _BREAKER:
            self._breaker.set(_BREAKER[what], {'lamella.key': str(facts.get('key', ''))})

    def _about(self, span: Open, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
        about: dict[str, Any] = {'gen_ai.operation.name': names.OPERATIONS[span.kind]}
        if span.kind in ('model', 'embedding'):
            about['gen_ai.provider.name'] = names.provider_of(span.model)
            about['gen_ai.request.model'] = names.short_name(span.model)
        if facts and facts.get('answered_by'):
            about['gen_ai.response.model'] = names.short_name(facts['answered_by'])
        if facts and facts.get('error') is not None:
            about['error.type'] = names.error_type(facts['error'])
        return about


_BREAKER = {'closed': 0, 'half_open': 1, 'opened': 2}


def _by_error(facts: Mapping[str, Any]) -> dict[str, str]:
    error = facts.get('error')
    return {} if error is None else {'error.type': names.error_type(error)}


def _tracer(given: Any) -> Any:
    """A tracer, that of a provider, or that of the global provider."""
    if hasattr(given, 'start_span'):
        return given
    return trace.get_tracer('lamella', tracer_provider=given, schema_url=names.SCHEMA_URL)


def _meter(given: Any) -> Any:
    if hasattr(given, 'create_histogram'):
        return given
    return metrics.get_meter('lamella', meter_provider=given, schema_url=names.SCHEMA_URL)


def current_context() -> Any:
    """The OpenTelemetry context that the caller stands in."""
    return otel_context.get_current()


def attach(context: Any) -> Any:
    return otel_context.attach(context)


def detach(token: Any) -> None:
    """Harmless where the token belongs to another context: a stream that was left is closed by somebody else."""
    with suppress(Exception):
        token.var.reset(token)


def traceparent_of(span: Open) -> str | None:
    """The W3C name of a span, for a run that goes on in another process."""
    context = span.span.get_span_context()
    if not context.is_valid:
        return None
    return f'00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}-{context.trace_flags:02x}'
