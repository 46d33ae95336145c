"""`CircuitBreaker`: opens, refuses at once, lets exactly its probes through, and closes; the same in both modes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from lamella import LamellaError
from lamella.middleware import BaseMiddleware, CircuitBreaker, Fallback, Retry, wrap_language_model
from lamella.stores.memory import MemoryStore
from lamella.types import ConfigError, Rejected, ResponseStarted, TextDelta
from tests.engine.kit import no_leaks
from tests.virtual import Clock, Timed, in_virtual_time, timed_app, tried

modes = pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
DOWN = LamellaError('UNAVAILABLE', 'down')
GOOD = ('fine',)


def now() -> float:
    return asyncio.get_running_loop().time()


def follows(pattern: str) -> Timed:
    """`x` a failure, `.` an answer, one for each call; the last mark repeats."""
    return Timed(*[(DOWN,) if mark == 'x' else GOOD for mark in pattern])


def down_until(seconds: float, takes_s: float = 0) -> Timed:
    return Timed(lambda n: (takes_s, DOWN) if now() < seconds else (takes_s, 'fine'))


class World:
    """Calls one after the other; `seen` has `x` for a failure, `r` for a refusal, `.` for an answer."""

    def __init__(self, model: Timed, *use: Any, streaming: bool = False, **options: Any) -> None:
        self.ai, self.sink = timed_app(model, check_order='ignore', **options)
        self.model, self.use, self.streaming, self.seen, self.last = model, use, streaming, '', None

    async def call(self, times: int = 1, **options: Any) -> str:
        before = len(self.seen)
        for _ in range(times):
            self.last = await tried(self.ai, self.streaming, self.use, **options)
            self.seen += mark(self.last)
        return self.seen[before:]

    @property
    def told(self) -> list[str]:
        return [name.partition('.')[2] for name in self.sink.names if name.startswith('circuit_breaker.')]


def mark(answer: Any) -> str:
    return 'r' if isinstance(answer, Rejected) else 'x' if isinstance(answer, LamellaError) else '.'


@modes
@in_virtual_time
async def test_so_many_failures_in_a_row_open_it_and_a_probe_closes_it(streaming: bool) -> None:
    world = World(down_until(40), CircuitBreaker(threshold=3, cooldown_s=30), streaming=streaming)
    assert await world.call(5) == 'xxxrr'
    assert len(world.model.calls) == 3
    await asyncio.sleep(29.9)
    assert await world.call() == 'r'
    await asyncio.sleep(0.2)
    assert await world.call(3) == 'xrr'  # the probe fails and opens it anew
    await asyncio.sleep(30.1)
    assert await world.call() == '.'
    assert world.last.metadata == {'circuit_breaker': {'probe': True, 'closed': True}}
    assert await world.call(3) == '...'
    assert world.last.metadata == {}
    assert world.told == [
        'opened', 'refused', 'refused', 'refused', 'half_open', 'opened', 'refused', 'refused', 'half_open', 'closed',
    ]  # fmt: skip
    opened = world.sink.named('circuit_breaker.opened')
    assert [event.facts['why'] for event in opened] == ['3 failures in a row', 'a probe failed']
    assert opened[0].facts['cooldown_s'] == 30


@modes
@in_virtual_time
async def test_a_refusal_says_why_and_when_to_come_back_and_sends_nothing(streaming: bool) -> None:
    world = World(follows('x'), CircuitBreaker(threshold=2, cooldown_s=30), streaming=streaming)
    await world.call(2)
    await asyncio.sleep(12)
    assert await world.call() == 'r'
    error: Any = world.last
    assert (error.status, error.by, error.retry_after_s) == ('UNAVAILABLE', 'circuit_breaker', 18)
    assert error.message == (
        'x/a is left alone: 2 failures in a row. The next try may go in 18 s (refused by circuit_breaker)'
    )
    assert (len(world.model.calls), error.attempts) == (2, ())


@modes
@in_virtual_time
async def test_a_success_between_them_ends_a_row_of_failures(streaming: bool) -> None:
    world = World(follows('xx.xx.xx.xxx'), CircuitBreaker(threshold=3), streaming=streaming)
    assert await world.call(13) == 'xx.xx.xx.xxxr'


@modes
@in_virtual_time
async def test_a_share_of_failures_opens_it_once_there_are_enough_calls(streaming: bool) -> None:
    rules: dict[str, Any] = {'threshold': None, 'failure_rate': 0.5, 'window_s': 10, 'min_calls': 6}
    world = World(follows('x.x.x.x'), CircuitBreaker(**rules), streaming=streaming)
    assert await world.call(8) == 'x.x.x.xr'
    (opened,) = world.sink.named('circuit_breaker.opened')
    assert opened.facts['why'] == '4 of 7 calls failed'
    world = World(follows('...x'), CircuitBreaker(**rules), streaming=streaming)
    assert await world.call(5) == '...xx'
    await asyncio.sleep(10)  # another window begins
    assert await world.call(7) == 'xxxxxxr'


@in_virtual_time
async def test_both_rules_at_once_and_the_window_begins_anew_after_a_recovery() -> None:
    layer = CircuitBreaker(threshold=4, failure_rate=0.6, min_calls=5, window_s=1000, cooldown_s=5)
    world = World(follows('xx.xx' + '.' + 'x.'), layer)
    assert await world.call(6) == 'xx.xxr'
    await asyncio.sleep(5)
    assert await world.call(3) == '.x.'  # 5 of 8 in the old window
    world = World(follows('x'), layer)
    assert await world.call(5) == 'xxxxr'


@modes
@pytest.mark.parametrize('probes', [1, 3])
@in_virtual_time
async def test_exactly_so_many_probes_go_at_once(probes: int, streaming: bool) -> None:
    model = Timed((DOWN,), (DOWN,), (2, 'fine'))
    world = World(model, CircuitBreaker(threshold=2, cooldown_s=30, probes=probes), streaming=streaming)
    await world.call(2)
    await asyncio.sleep(30)
    answers = await asyncio.gather(*[tried(world.ai, streaming, world.use) for _ in range(50)])
    assert sorted(map(mark, answers)) == ['.'] * probes + ['r'] * (50 - probes)
    assert len(model.calls) == 2 + probes
    assert {error.retry_after_s for error in answers if isinstance(error, Rejected)} == {1.0}
    assert world.told.count('closed') == 1
    assert await world.call(3) == '...'


@in_virtual_time
async def test_it_closes_when_all_its_probes_succeeded_one_after_the_other_too() -> None:
    world = World(follows('xx..x....'), CircuitBreaker(threshold=2, cooldown_s=30, probes=3))
    await world.call(2)
    await asyncio.sleep(30)
    assert await world.call(4) == '..xr'
    await asyncio.sleep(30)
    assert await world.call(3) == '...'
    assert [end.facts['model'] for end in world.sink.named('circuit_breaker.closed')] == ['x/a']


@modes
@in_virtual_time
async def test_what_is_no_failure_of_the_model_does_not_count(streaming: bool) -> None:
    class Refuses(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            raise Rejected('no', by=self, status='UNAVAILABLE')

    layer = CircuitBreaker(threshold=1)
    for broken in (LamellaError('INVALID_ARGUMENT', 'no'), ConfigError('no'), LamellaError('ABORTED', 'x')):
        world = World(Timed((broken,)), layer, streaming=streaming)
        assert set(await world.call(3)) == {'x'}
    world = World(follows('.'), layer, Refuses(), streaming=streaming)
    await world.call(3)
    assert world.told == []
    world = World(Timed((ZeroDivisionError(),)), layer, streaming=streaming)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await world.call()
    world = World(Timed((LamellaError('ABORTED', 'x'),)), CircuitBreaker(threshold=1, statuses=['ABORTED']))
    assert await world.call(2) == 'xr'


@modes
@in_virtual_time
async def test_a_probe_that_says_nothing_of_the_model_gives_its_place_back(streaming: bool) -> None:
    model = Timed((DOWN,), (60, 'late'), (LamellaError('INVALID_ARGUMENT', 'no'),), (ZeroDivisionError(),), GOOD)
    world = World(model, CircuitBreaker(threshold=1, cooldown_s=30), streaming=streaming)
    await world.call()
    await asyncio.sleep(30)
    async with no_leaks():
        task = asyncio.create_task(world.call())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await world.call() == 'x'
    with pytest.raises(ZeroDivisionError):
        await world.call()
    assert await world.call() == '.'
    assert world.told == ['opened', *['half_open'] * 4, 'closed']


@in_virtual_time
async def test_a_stream_that_fails_after_its_first_content_is_a_failure_and_one_that_is_left_is_nothing() -> None:
    broken = Timed(('Half', DOWN))
    world = World(broken, CircuitBreaker(threshold=2), streaming=True)
    assert await world.call(3) == 'xxr'
    model = Timed((DOWN,), ('one', 5, 'two'), GOOD)
    world = World(model, CircuitBreaker(threshold=1, cooldown_s=30), streaming=True)
    await world.call()
    await asyncio.sleep(30)
    async with no_leaks(), world.ai.generate_stream(prompt='hi', use=list(world.use)) as stream:
        async for _ in stream:
            break
    assert model.ends == ['failed', 'left']
    assert await world.call() == '.'


@pytest.mark.breaks_stream_rules
@in_virtual_time
async def test_a_stream_without_an_end_is_no_success_and_holds_no_probe() -> None:
    class Endless(BaseMiddleware[Any]):
        async def wrap_stream(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            yield ResponseStarted()
            yield TextDelta('x')

    world = World(follows('x.'), CircuitBreaker(threshold=1, cooldown_s=30), streaming=True)
    await world.call()
    await asyncio.sleep(30)
    error = await tried(world.ai, True, [*world.use, Endless()])
    assert 'no Finished' in error.message
    assert await world.call() == '.'


@modes
@in_virtual_time
async def test_a_probe_that_never_comes_back_is_given_up_after_its_lease(streaming: bool) -> None:
    model = Timed((DOWN,), (1000, 'at last'), GOOD)
    world = World(model, CircuitBreaker(threshold=1, cooldown_s=30, probe_lease_s=60), streaming=streaming)
    await world.call()
    await asyncio.sleep(30)
    lost = asyncio.create_task(tried(world.ai, streaming, world.use))
    await asyncio.sleep(59)
    assert await world.call() == 'r'
    await asyncio.sleep(2)
    assert await world.call() == '.'
    assert mark(await lost) == '.'
    assert world.told.count('closed') == 1


@modes
@in_virtual_time
async def test_what_was_asked_before_a_recovery_does_not_count_after_it(streaming: bool) -> None:
    model = Timed(*[(50, DOWN)] * 5, *[(DOWN,)] * 2, GOOD)
    world = World(model, CircuitBreaker(threshold=2, cooldown_s=5), streaming=streaming)
    slow = [asyncio.create_task(tried(world.ai, streaming, world.use)) for _ in range(5)]
    await asyncio.sleep(1)
    assert await world.call(2) == 'xx'
    await asyncio.sleep(5)
    assert await world.call() == '.'
    assert ''.join(map(mark, await asyncio.gather(*slow))) == 'xxxxx'
    assert await world.call(2) == '..'


@in_virtual_time
async def test_a_late_success_closes_nothing_that_has_opened_since() -> None:
    model = Timed((10, 'late'), (DOWN,), (DOWN,))
    world = World(model, CircuitBreaker(threshold=2, cooldown_s=60))
    late = asyncio.create_task(tried(world.ai, False, world.use))
    await asyncio.sleep(1)
    assert await world.call(2) == 'xx'
    assert mark(await late) == '.'
    assert await world.call() == 'r'


@in_virtual_time
async def test_each_model_has_its_own_circuit_unless_a_key_says_otherwise() -> None:
    a, b = follows('x'), Timed(GOOD, name='x/b')
    ai, _ = timed_app(a, b)
    layer = CircuitBreaker(threshold=1)
    await tried(ai, False, [layer])
    assert mark(await tried(ai, False, [layer])) == 'r'
    assert mark(await tried(ai, False, [layer], model='x/b')) == '.'
    layer = CircuitBreaker(threshold=1, key=None)
    await tried(ai, False, [layer])
    refused = await tried(ai, False, [layer], model='x/b')
    assert "x/b (key '') is left alone" in refused.message
    by_tenant = CircuitBreaker(threshold=1, key='tenant')
    hostile = ['', 'a', 'a:b', 'b\n', 'x' * 10_000, 'ä', 'circuit_breaker:']
    for tenant in hostile:
        assert mark(await tried(ai, False, [by_tenant], context={'tenant': tenant})) == 'x'
    for tenant in hostile:
        assert mark(await tried(ai, False, [by_tenant], context={'tenant': tenant})) == 'r'


@in_virtual_time
async def test_layers_with_the_same_settings_share_a_circuit_and_others_do_not() -> None:
    ai, _ = timed_app(follows('x'))
    await tried(ai, False, [CircuitBreaker(threshold=1)])
    assert mark(await tried(ai, False, [CircuitBreaker(threshold=1)])) == 'r'
    assert mark(await tried(ai, False, [CircuitBreaker(threshold=2)])) == 'x'
    assert mark(await tried(ai, False, [CircuitBreaker(threshold=1, scope='mine')])) == 'x'


@modes
@in_virtual_time
async def test_of_two_alike_in_one_stack_the_outer_one_decides(streaming: bool) -> None:
    layer = CircuitBreaker(threshold=2, cooldown_s=5)
    world = World(
        follows('xx.'), layer, Retry(max_retries=0), CircuitBreaker(threshold=2, cooldown_s=5), streaming=streaming
    )
    assert await world.call(3) == 'xxr'
    await asyncio.sleep(5)
    assert await world.call(2) == '..'
    assert world.told == ['opened', 'refused', 'half_open', 'closed']


@modes
@in_virtual_time
async def test_of_two_alike_one_may_be_fixed_on_the_model(streaming: bool) -> None:
    raw = follows('xx.')
    ai, sink = timed_app(raw)
    layer = CircuitBreaker(threshold=2, cooldown_s=5)
    model = wrap_language_model(model=raw.model, middleware=[CircuitBreaker(threshold=2, cooldown_s=5)])
    seen = ''.join([mark(await tried(ai, streaming, [layer], model=model)) for _ in range(3)])
    await asyncio.sleep(5)
    seen += ''.join([mark(await tried(ai, streaming, [layer], model=model)) for _ in range(2)])
    assert seen == 'xxr..'
    assert [name for name in sink.names if name.startswith('circuit')] == [
        f'circuit_breaker.{what}' for what in ('opened', 'refused', 'half_open', 'closed')
    ]


@modes
@in_virtual_time
async def test_a_fallback_moves_on_at_once_while_it_is_open(streaming: bool) -> None:
    a, b = Timed((3, DOWN)), Timed(GOOD, name='x/b')
    ai, _ = timed_app(a, b)
    use = [Fallback(models=['x/b']), CircuitBreaker(threshold=2, cooldown_s=30)]
    times = []
    for _ in range(4):
        began = now()
        answer = await tried(ai, streaming, use)
        times.append(now() - began)
        assert (answer.model, answer.metadata['fallback']['error_code']) == ('x/b', 'UNAVAILABLE')
    assert times == [3, 3, 0, 0]
    assert len(a.calls) == 2


@modes
@in_virtual_time
async def test_a_retry_outside_waits_for_the_next_probe_or_gives_up_when_that_is_too_long(streaming: bool) -> None:
    model = follows('xx.')
    use = [Retry(max_retries=3, no_jitter=True), CircuitBreaker(threshold=2, cooldown_s=30)]
    world = World(model, *use, streaming=streaming)
    assert await world.call() == '.'
    assert model.begins == [0, 1, 31]  # the second failure opened it; the third try came when a probe may go
    world = World(follows('x'), Retry(max_delay_ms=20_000), CircuitBreaker(threshold=1), streaming=streaming)
    assert await world.call() == 'r'
    assert len(world.model.calls) == 1


@modes
@in_virtual_time
async def test_a_retry_inside_is_one_call_for_it(streaming: bool) -> None:
    world = World(follows('xx.xxxxxx'), CircuitBreaker(threshold=2), Retry(max_retries=2), streaming=streaming)
    assert await world.call(4) == '.xxr'


class Away(MemoryStore):
    """A store whose server is down."""

    def __init__(self) -> None:
        super().__init__(clock=Clock())
        self.asked = 0

    async def get(self, key: str) -> Any:
        self.asked += 1
        raise LamellaError('UNAVAILABLE', 'connection refused')


@modes
@in_virtual_time
async def test_with_its_store_away_calls_go_through_as_if_all_was_well_or_are_refused(streaming: bool) -> None:
    store = Away()
    world = World(follows('xx.'), CircuitBreaker(threshold=1), streaming=streaming, store=store)
    assert await world.call(3) == 'xx.'
    assert store.asked == 3  # and nobody waits for it a second time in a call
    (away, *_) = world.sink.named('store.away')
    assert (away.facts['by'], away.facts['action']) == ('circuit_breaker', 'allow')
    world = World(follows('.'), CircuitBreaker(on_store_error='refuse'), streaming=streaming, store=Away())
    assert await world.call() == 'r'
    assert (world.model.calls, world.last.status) == ([], 'UNAVAILABLE')  # type: ignore[attr-defined]


@modes
@in_virtual_time
async def test_an_answer_is_not_thrown_away_because_the_store_went_away_meanwhile(streaming: bool) -> None:
    class Goes(MemoryStore):
        gone = False

        async def get(self, key: str) -> Any:
            if self.gone:
                raise LamellaError('UNAVAILABLE', 'connection refused')
            return await super().get(key)

    store = Goes(clock=Clock())
    world = World(Timed((5, 'fine')), CircuitBreaker(on_store_error='refuse'), streaming=streaming, store=store)
    task = asyncio.create_task(world.call())
    await asyncio.sleep(1)
    store.gone = True
    assert await task == '.'
    assert len(world.sink.named('store.away')) == 1


class Far:
    """A store each of whose verbs takes a second, half of it on the way there."""

    def __init__(self) -> None:
        self._store = MemoryStore(clock=Clock())

    def __getattr__(self, verb: str) -> Any:
        async def asked(*given: Any, **more: Any) -> Any:
            await asyncio.sleep(0.5)
            answer = await getattr(self._store, verb)(*given, **more)
            await asyncio.sleep(0.5)
            return answer

        return asked


@in_virtual_time
async def test_a_cancellation_between_two_verbs_gives_the_probe_back() -> None:
    world = World(follows('x.'), CircuitBreaker(threshold=1, cooldown_s=30), store=Far())
    await world.call()
    await asyncio.sleep(30)
    for after in (0.5, 1.5, 2.5, 3.5):
        task = asyncio.create_task(world.call())
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(2)
    assert await world.call() == '.'


@in_virtual_time
async def test_it_leaves_nothing_behind_but_for_a_day() -> None:
    store = MemoryStore(clock=Clock())
    layer = CircuitBreaker(threshold=1, cooldown_s=5, probes=2, failure_rate=0.5, min_calls=1, key='tenant')
    world = World(Timed((DOWN,), GOOD), layer, store=store)
    for tenant in map(str, range(20)):
        world.model.calls.clear()
        assert await world.call(2, context={'tenant': tenant}) == 'xr'
        await asyncio.sleep(5)
        assert await world.call(3, context={'tenant': tenant}) == '...'
    assert len(store) > 20
    await asyncio.sleep(90_000)
    assert len(store) == 0


@pytest.mark.parametrize('count', [1, 7])
@in_virtual_time
async def test_many_at_once_on_one_event_loop_open_it_once(count: int) -> None:
    world = World(Timed((1, DOWN)), CircuitBreaker(threshold=5))
    answers: Sequence[Any] = await asyncio.gather(*[tried(world.ai, n % 2 > 0, world.use) for n in range(5 * count)])
    assert set(map(mark, answers)) == {'x'}
    assert world.told.count('opened') == 1
    assert await world.call() == 'r'


def test_wrong_settings_are_said_all_at_once() -> None:
    with pytest.raises(ConfigError, match='never opens: give threshold, failure_rate or both'):
        CircuitBreaker(threshold=None)
    with pytest.raises(ConfigError) as caught:
        CircuitBreaker(threshold=0, failure_rate=1.5, probes=0, cooldown_s=-1, statuses=['DOWN'], key='modle')  # type: ignore[list-item]
    for field in ('threshold', 'failure_rate', 'probes', 'cooldown_s', 'statuses', "did you mean 'model'"):
        assert field in caught.value.message


def test_settings_in_their_place_as_in_the_table_of_the_seeds() -> None:
    layer = CircuitBreaker(threshold=5, cooldown_s=30)
    assert (layer.config.threshold, layer.config.cooldown_s, layer.config.probes) == (5, 30, 1)
