"""Each raw model call is priced and told once, where the model answers: whole, streamed, failed, left, and behind layers."""

from __future__ import annotations

from typing import Any

import pytest

from lamella import Lamella, LamellaError, ModelResponse, Usage, wrap_language_model
from lamella.core.metering import Account, RawCall, guessed
from lamella.core.prices import PriceTable
from lamella.middleware import BaseMiddleware, Fallback, Retry
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    Finished,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    fold,
    to_messages,
)
from tests.middleware.kit import cut, world

TABLE = PriceTable(
    {'x/*': {'input_per_mtok': 1_000_000, 'output_per_mtok': 2_000_000}}
)  # a dollar a token, two for output
USED, READ = Usage(1, 1, 2), Usage(1, 0, 1)


class Metered(BaseMiddleware):
    """Counts what the calls inside of it used."""

    def __init__(self, prices: Any = TABLE, note: Any = None) -> None:
        super().__init__()
        self.calls: list[RawCall] = []
        self._prices, self._note = prices, note

    async def transform_params(self, params, ctx):
        before = params.account or Account()
        return params.replace(account=Account(before.prices or self._prices, (*before.meters, self._tell)))

    def _tell(self, call: RawCall, ctx: Any) -> dict[str, Any]:
        self.calls.append(call)
        return dict(self._note) if self._note else {}

    @property
    def told(self) -> list[Any]:
        return [(call.model[-1], call.outcome, call.used and call.used.cost_usd) for call in self.calls]


def answer(text: str = 'ok', usage: Usage | None = USED, **fields: Any) -> ModelResponse:
    return ModelResponse.text_of(text, usage=usage, **fields)


def failed(usage: Usage | None = READ, status: Any = 'UNAVAILABLE') -> Any:
    return lambda request: LamellaError(status, 'down', partial=ModelResponse(usage=usage))


async def both_ways(scripts: dict[str, Any], build: Any, **options: Any) -> tuple[Any, Any, list[Any], list[Any]]:
    """The same script whole and as a stream: responses (or errors), and what the meters were told."""
    results, told = [], []
    for streaming in (False, True):
        app, use = world(scripts), build()
        meter = next(layer for layer in use if isinstance(layer, Metered))
        try:
            if streaming:
                results.append(await app.ai.generate_stream(prompt='hi', use=use, **options).response)
            else:
                results.append(await app.ai.generate(prompt='hi', use=use, **options))
        except LamellaError as error:
            results.append(error)
        told.append(meter.told)
    return results[0], results[1], told[0], told[1]


async def test_an_answer_is_priced_in_both_modes_and_in_its_event() -> None:
    whole, streamed, one, two = await both_ways({'x/a': [answer()]}, lambda: [Metered(note={'meter': 1})])
    assert whole == streamed
    assert (whole.usage.cost_usd, whole.metadata, one) == (3.0, {'meter': 1}, [('a', 'answered', 3.0)])
    assert two == one
    app = world({'x/a': [answer()]})
    await app.ai.generate(prompt='hi', use=[Metered()])
    assert app.sink.named('model.end')[0].facts['usage'].cost_usd == 3.0


@pytest.mark.parametrize('order', ['outside', 'inside'])
async def test_failed_attempts_and_fallbacks_are_priced_by_the_model_that_was_asked_wherever_the_meter_stands(
    order,
) -> None:
    table = PriceTable(
        {
            'x/a': {'input_per_mtok': 1_000_000, 'output_per_mtok': 0},
            'x/b': {'input_per_mtok': 5_000_000, 'output_per_mtok': 0},
        }
    )

    def build() -> list[Any]:
        around = [Fallback(models=['x/b']), Retry(max_retries=1, no_jitter=True)]
        return [Metered(table), *around] if order == 'outside' else [*around, Metered(table)]

    whole, streamed, one, two = await both_ways({'x/a': [failed(), failed()], 'x/b': [answer()]}, build)
    assert whole == streamed
    assert one == two == [('a', 'failed', 1.0), ('a', 'failed', 1.0), ('b', 'answered', 5.0)]
    assert whole.usage == Usage(3, 1, 4, cost_usd=7.0)


async def test_the_error_that_is_raised_says_what_it_cost() -> None:
    whole, streamed, one, two = await both_ways({'x/a': [failed()]}, lambda: [Metered()])
    assert whole.partial.usage == streamed.partial.usage == Usage(1, 0, 1, cost_usd=1.0)
    assert one == two == [('a', 'failed', 1.0)]


async def test_a_failure_that_nothing_is_known_of_is_told_as_nothing() -> None:
    down = lambda request: LamellaError('UNAVAILABLE', 'down')  # noqa: E731
    *_, one, two = await both_ways({'x/a': [down]}, lambda: [Metered()])
    assert one == two == [('a', 'failed', None)]


async def test_what_breaks_off_without_a_report_is_guessed_alike_in_both_modes() -> None:
    *_, one, two = await both_ways({'x/a': [cut('some words', ' more')]}, lambda: [Metered()])
    assert one == two
    ((_, outcome, cost),) = one
    assert outcome == 'failed'
    assert cost > 2


async def test_an_answer_without_a_report_keeps_its_usage_and_is_guessed_for_the_meters() -> None:
    whole, streamed, one, two = await both_ways({'x/a': [answer('some words', None)]}, lambda: [Metered()])
    assert whole.usage is streamed.usage is None
    assert one == two
    assert one[0][2] > 2


async def test_a_stream_that_is_left_is_told_with_what_had_arrived() -> None:
    app, meter = world({'x/a': [[TextDelta('one '), TextDelta('two '), TextDelta('three')]]}), Metered()
    stream = app.ai.generate_stream(prompt='hi', use=[meter])
    async for part in stream:
        if type(part) is TextDelta:
            break
    await stream.aclose()
    (call,) = meter.calls
    assert (call.outcome, call.usage) == ('left', None)
    assert call.guess == guessed(call.request, [TextDelta('one ')]).replace(cost_usd=call.guess.cost_usd)


async def test_a_stream_that_is_left_before_anything_came_is_not_told() -> None:
    app, meter = world({'x/a': ['never']}), Metered()
    stream = app.ai.generate_stream(prompt='hi', use=[meter])
    await stream.aclose()
    assert meter.calls == []


async def test_a_stream_whose_end_is_not_read_on_is_told_once() -> None:
    app, meter = world({'x/a': [answer()]}), Metered()
    stream = app.ai.generate_stream(prompt='hi', use=[meter])
    async for part in stream:
        if type(part) is Finished:
            break
    await stream.aclose()
    assert meter.told == [('a', 'answered', 3.0)]


async def test_a_cost_that_the_provider_told_is_believed() -> None:
    whole, *_, one, _two = await both_ways({'x/a': [answer(usage=Usage(1, 1, 2, cost_usd=0.5))]}, lambda: [Metered()])
    assert whole.usage.cost_usd == 0.5
    assert one == [('a', 'answered', 0.5)]


async def test_an_unknown_price_is_no_price() -> None:
    whole, *_, one, _two = await both_ways({'y/a': [answer()]}, lambda: [Metered()])
    assert whole.usage.cost_usd is None
    assert one == [('a', 'answered', None)]


async def test_prices_that_fail_harm_no_call_and_are_told() -> None:
    class Broken:
        def cost(self, provider, model, usage, answered=None):
            raise RuntimeError('no such table')

    app = world({'x/a': [answer()]})
    response = await app.ai.generate(prompt='hi', use=[Metered(Broken())])
    assert (response.text, response.usage.cost_usd) == ('ok', None)
    assert str(app.sink.named('prices.failed')[0].facts['error']) == 'no such table'


async def test_a_model_with_layers_of_its_own_is_one_call_with_what_its_attempts_used() -> None:
    for streaming in (False, True):
        inner = ScriptedModel([failed(), answer()], name='x/a')
        fixed, meter = wrap_language_model(model=inner, middleware=Retry(no_jitter=True)), Metered()
        ai = Lamella(model=fixed, clock=FakeClock())
        call = (
            ai.generate_stream(prompt='hi', use=[meter]).response
            if streaming
            else ai.generate(prompt='hi', use=[meter])
        )
        response = await call
        assert response.usage == Usage(2, 1, 3, cost_usd=4.0)
        assert [(call.layered, call.own_price, call.usage) for call in meter.calls] == [(True, False, response.usage)]


async def test_a_model_that_asked_another_one_inside_costs_what_that_one_does() -> None:
    prices = PriceTable(
        {'x/a': {'input_per_mtok': 9e6, 'output_per_mtok': 0}, 'x/b': {'input_per_mtok': 1e6, 'output_per_mtok': 0}}
    )
    cheap = ScriptedModel([answer()], name='x/b')
    down = ScriptedModel([lambda request: LamellaError('UNAVAILABLE', 'down')], name='x/a')
    fixed, meter = wrap_language_model(model=down, middleware=Fallback(models=[cheap])), Metered(prices)
    response = await Lamella(model=fixed).generate(prompt='hi', use=[meter])
    assert (response.usage.cost_usd, [call.used.cost_usd for call in meter.calls]) == (1.0, [1.0])


async def test_layers_inside_a_model_price_first() -> None:
    dear = PriceTable({'x/a': {'input_per_mtok': 9_000_000, 'output_per_mtok': 0}})
    inner, outer = Metered(dear), Metered()
    fixed = wrap_language_model(model=ScriptedModel([answer()], name='x/a'), middleware=inner)
    response = await Lamella(model=fixed).generate(prompt='hi', use=[outer])
    assert (response.usage.cost_usd, inner.told, outer.told) == (
        9.0,
        [('a', 'answered', 9.0)],
        [('a', 'answered', 9.0)],
    )
    assert outer.calls[0].own_price


def test_a_guess_is_the_same_of_parts_and_of_what_they_fold_to() -> None:
    request = ModelRequest(to_messages(['hi']))
    look = ToolRequested(ToolRequest('look', {'where': 'in the garden'}, 'r'), 3)
    parts = [TextDelta('one '), ReasoningDelta('hm', 1), TextDelta('two'), ToolInputDelta('{"where":', 3, 'look'), look]
    assert guessed(request, parts) == guessed(request, fold(parts).message.content)
    assert guessed(request, []).output_tokens == 0


def test_the_input_of_a_tool_request_that_breaks_off_is_part_of_a_guess() -> None:
    request = ModelRequest(to_messages(['hi']))
    pieces = [ToolInputDelta('{"text": "once upon ', 0, 'write'), ToolInputDelta('a time there was', 0)]
    assert guessed(request, pieces).output_tokens > 5


async def test_nobody_listening_changes_nothing() -> None:
    given = answer()
    sink = CollectingSink()
    ai = Lamella(model=ScriptedModel([given], name='x/a'), sinks=[sink])
    response = await ai.generate(prompt='hi')
    assert response.usage == given.usage
    assert response.metadata == {}
