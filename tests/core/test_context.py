"""What the hooks of one run share."""

from contextlib import suppress
from random import Random
from typing import Any

import pytest

from lamella import Lamella, LamellaError
from lamella.core.context import SYSTEM_RANDOM, GenerateMiddlewareContext
from lamella.core.events import Event
from lamella.middleware import BaseMiddleware, Retry, wrap_language_model
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import Rejected


def context(**options: Any) -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Lamella(), **options)


def test_the_callers_values_are_there_and_nothing_is_nothing() -> None:
    assert context(context={'tenant': 'acme'}).context['tenant'] == 'acme'
    assert dict(context().context) == {}
    with pytest.raises(TypeError):
        context().context['x'] = 1  # type: ignore[index]


def test_state_belongs_to_one_owner_and_one_run() -> None:
    ctx, other = context(), context()
    a, b = object(), object()
    ctx.state(a)['n'] = 1
    assert ctx.state(a) == {'n': 1}
    assert ctx.state(b) == {}
    assert other.state(a) == {}


def test_state_of_an_owner_that_is_gone_is_not_given_to_another() -> None:
    ctx = context()
    for n in range(1_000):
        owner = [n]
        assert ctx.state(owner) == {}
        ctx.state(owner)['n'] = n
        del owner


def test_a_run_has_one_id_made_when_it_is_asked_for() -> None:
    ctx = context(random=Random(1))
    assert ctx.run_id == ctx.run_id
    assert ctx.run_id.startswith('run_')
    assert ctx.run_id == context(random=Random(1)).run_id != context(random=Random(2)).run_id


def test_events_reach_every_listener_with_the_time_of_the_clock() -> None:
    sinks = CollectingSink(), CollectingSink()
    ctx = context(sinks=sinks, clock=FakeClock(start=5))
    ctx.emit('a.b', n=1)
    assert sinks[0].events == sinks[1].events == [Event('a.b', 5, ctx.run_id, {'n': 1})]


def test_listening_ends_with_the_block_also_after_an_error() -> None:
    ctx, sink = context(), CollectingSink()

    def fails() -> None:
        with ctx.listening(sink):
            ctx.emit('inside')
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    ctx.emit('outside')
    assert sink.names == ['inside']
    assert ctx.sinks == ()


def test_the_same_listener_inside_its_own_block_is_told_as_often_as_it_listens() -> None:
    ctx, sink = context(), CollectingSink()
    with ctx.listening(sink):
        with ctx.listening(sink):
            ctx.emit('twice')
        ctx.emit('once')
    assert sink.names == ['twice', 'twice', 'once']


def test_a_listener_that_exits_the_program_is_not_silenced() -> None:
    def exits(event: Any) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        context(sinks=(exits,)).emit('x')


def test_the_deadline_is_told_as_what_is_left() -> None:
    clock = FakeClock(start=10)
    ctx = context(clock=clock, deadline=15)
    assert ctx.remaining_s() == 5
    clock._move(20)
    assert ctx.remaining_s() == -5
    assert context().remaining_s() is None


def test_a_failure_is_noted_once_however_often_it_passes() -> None:
    sink = CollectingSink()
    ctx = context(clock=FakeClock(start=10), sinks=(sink,))
    first, second = LamellaError('UNAVAILABLE', 'a'), LamellaError('ABORTED', 'b')
    for error in (first, first, second, second):
        ctx.record_failure('m', error, 7)
    assert [(a.model, a.status, a.duration_s, a.message) for a in ctx.attempts] == [
        ('m', 'UNAVAILABLE', 3, 'a'),
        ('m', 'ABORTED', 3, 'b'),
    ]
    assert sink.names == ['model.error', 'model.error']


def test_chance_is_the_modules_own_unless_given() -> None:
    assert context().random is SYSTEM_RANDOM
    assert isinstance(SYSTEM_RANDOM, Random)


class Refusing(BaseMiddleware):
    """Refuses every call before it is sent."""

    async def wrap_model(self, params, ctx, next_fn):
        raise Rejected('no', by=self)


class Counted(BaseMiddleware):
    """Notes how many requests were sent while its call ran."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def wrap_model(self, params, ctx, next_fn):
        before = ctx.sent
        try:
            return await next_fn(params, ctx)
        finally:
            self.seen.append(ctx.sent - before)


@pytest.mark.parametrize('streaming', [False, True])
@pytest.mark.parametrize(
    ('model', 'inner', 'sent'),
    [
        (lambda: ScriptedModel(['hi']), [], 1),
        (lambda: ScriptedModel([LamellaError('UNAVAILABLE', 'down')]), [], 1),
        (lambda: ScriptedModel(['hi']), [Refusing()], 0),
        (lambda: ScriptedModel([LamellaError('UNAVAILABLE', 'down'), 'hi']), [Retry(no_jitter=True)], 2),
        (lambda: wrap_language_model(model=ScriptedModel(['hi']), middleware=Refusing()), [], 0),
        (lambda: wrap_language_model(model=ScriptedModel(['hi']), middleware=Counted()), [], 1),
    ],
)
async def test_a_layer_knows_how_many_requests_were_sent(model: Any, inner: Any, sent: int, streaming: bool) -> None:
    counted = Counted()
    ai = Lamella(model=model(), clock=FakeClock())
    with suppress(LamellaError):
        if streaming:
            await ai.generate_stream(prompt='hi', use=[counted, *inner]).response
        else:
            await ai.generate(prompt='hi', use=[counted, *inner])
    assert counted.seen == [sent]


async def test_what_listeners_hear_goes_through_the_runs_censors_in_turn() -> None:
    sink = CollectingSink()
    ctx = context(sinks=(sink,))
    ctx.emit('before', who='bob')
    ctx.censor(_hides_bob)
    ctx.censor(_hides_bob)  # once is enough
    ctx.censor(str.upper)
    ctx.emit('after', who='bob and eve', n='x')
    assert [event.facts for event in sink.events] == [{'who': 'bob'}, {'who': 'X AND EVE', 'n': 'X'}]
    assert ctx.tellable('bob') == 'X'
    assert context().tellable('bob') == 'bob'


def _hides_bob(value: Any) -> Any:
    return value.replace('bob', 'x')


async def test_a_censor_that_fails_leaves_nothing_to_tell() -> None:
    sink = CollectingSink()
    ctx = context(sinks=(sink,))
    ctx.censor(str.upper)
    ctx.emit('told', who='bob', n=1)
    assert sink.events[0].facts == {'who': 'BOB', 'n': '(withheld: TypeError in what takes out private data)'}


def test_secrets_come_from_the_system_unless_chance_was_given() -> None:
    assert context().secret(16) != context().secret(16)
    assert context(random=Random(1)).secret(16) == context(random=Random(1)).secret(16)
    assert len(context().secret(32)) == 32
