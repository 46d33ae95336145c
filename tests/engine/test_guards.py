"""What a run may cost, and how many tokens it may use: looked at between its turns, in both modes."""

from __future__ import annotations

from typing import Any

import pytest

from lamella import Lamella, LamellaError, ModelResponse, Usage
from lamella.core import prices as prices_module
from lamella.middleware import BaseMiddleware, Retry
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ConfigError, Message, ToolRequest, ToolRequestPart
from tests.engine.kit import both

PRICES = {'x/a': {'input_per_mtok': 1_000_000, 'output_per_mtok': 0}}  # a dollar for each token that is read
USED = Usage(1, 1, 2)


def turn(usage: Usage | None = USED, ref: str | None = None) -> ModelResponse:
    part = ToolRequestPart(ToolRequest('look', {}, ref))
    return ModelResponse(message=Message('assistant', (part,)), finish_reason='tool_calls', usage=usage)


def look() -> str:
    return 'seen'


def app(*answers: Any, name: str = 'x/a', prices: Any = PRICES, **options: Any) -> Lamella:
    model = ScriptedModel([*answers, 'done'], name=name)
    return Lamella(model=model, prices=prices, clock=options.pop('clock', None) or FakeClock(), **options)


async def ends(*answers: Any, app_options: dict[str, Any] | None = None, **options: Any) -> Any:
    """The same run whole and streamed."""
    return await both(lambda: app(*answers, **(app_options or {})), prompt='hi', tools=[look], **options)


async def test_no_turn_begins_when_the_money_is_spent() -> None:
    response = await ends(turn(ref='1'), turn(ref='2'), turn(ref='3'), max_cost_usd=2)
    assert (response.stop_reason, len(response.turns)) == ('max_cost', 2)
    assert response.stop_message == 'max_cost_usd=2 reached: $2 in 2 turns'
    assert response.usage.cost_usd == 2.0
    assert [message.role for message in response.messages] == ['user', 'assistant', 'tool', 'assistant', 'tool']


async def test_no_turn_begins_when_the_tokens_are_used() -> None:
    response = await ends(turn(ref='1'), turn(ref='2'), max_tokens=3)
    assert (response.stop_reason, len(response.turns)) == ('max_tokens', 2)
    assert response.stop_message == 'max_tokens=3 reached: 4 in 2 turns'


async def test_an_answer_is_final_whatever_it_cost() -> None:
    response = await ends(max_cost_usd=0, max_tokens=0)
    assert (response.stop_reason, response.text) == ('final', 'done')


async def test_zero_is_zero_and_none_is_none() -> None:
    assert (await ends(turn(ref='1'), max_cost_usd=0)).stop_reason == 'max_cost'
    assert (await ends(turn(ref='1'), max_tokens=0)).stop_reason == 'max_tokens'
    assert (await ends(turn(ref='1'), max_cost_usd=None, max_tokens=None)).stop_reason == 'final'


async def test_the_app_has_limits_for_every_run_and_a_run_may_have_its_own() -> None:
    limited = {'app_options': {'max_cost_usd': 1, 'max_tokens': 100}}
    assert (await ends(turn(ref='1'), **limited)).stop_reason == 'max_cost'
    assert (await ends(turn(ref='1'), **limited, max_cost_usd=5)).stop_reason == 'final'
    assert (await ends(turn(ref='1'), **limited, max_cost_usd=5, max_tokens=1)).stop_reason == 'max_tokens'


async def test_failed_attempts_count() -> None:
    def down(request: Any) -> LamellaError:
        return LamellaError('UNAVAILABLE', 'down', partial=ModelResponse(usage=Usage(5, 0, 5)))

    response = await ends(down, turn(ref='1'), max_cost_usd=6, use=[Retry(no_jitter=True)])
    assert (response.stop_reason, len(response.turns)) == ('max_cost', 1)


async def test_tokens_are_estimated_where_the_provider_tells_none() -> None:
    response = await ends(turn(None, '1'), max_tokens=1)
    assert response.stop_reason == 'max_tokens'


async def test_a_limit_that_nobody_can_hold_is_refused_before_the_first_call() -> None:
    ai = app(name='y/unknown')
    with pytest.raises(
        LamellaError, match=r"max_cost_usd=1 cannot be held: no price is known for 'y/unknown'; give prices="
    ) as caught:
        await ai.generate(prompt='hi', max_cost_usd=1)
    assert caught.value.status == 'FAILED_PRECONDITION'
    assert ai.default_model.requests == []


async def test_a_limit_without_any_prices_names_the_command(monkeypatch) -> None:
    monkeypatch.setattr(prices_module, 'find_spec', lambda name: None)
    ai = app(prices=None)
    with pytest.raises(ConfigError, match=r"pip install 'lamella\[prices\]'"):
        await ai.generate(prompt='hi', max_cost_usd=1)


class Other(BaseMiddleware):
    """Sends the call to another model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    async def wrap_model(self, params, ctx, next_fn):
        return await next_fn(params.replace(model=self._model), ctx)


async def test_a_model_without_a_price_behind_a_layer_ends_the_run_after_its_turn() -> None:
    other = ScriptedModel([turn(ref='1'), 'done'], name='y/unknown')
    with pytest.raises(LamellaError, match="no price is known for 'y/unknown'"):
        await app().generate(prompt='hi', tools=[look], use=[Other(other)], max_cost_usd=1)
    assert len(other.requests) == 1


async def test_a_run_whose_deadline_passed_in_a_tool_ends_with_what_there_is() -> None:
    clock = FakeClock()

    def slow_look() -> str:
        clock._now += 11  # a tool that holds the loop: no timer can fire
        return 'seen'

    async def held() -> str:
        return slow_look()

    for streaming in (False, True):
        ai = app(
            turn(ref='1').replace(message=Message('assistant', (ToolRequestPart(ToolRequest('held', {}, '1')),))),
            clock=clock,
        )
        options: Any = {'prompt': 'hi', 'tools': [held], 'timeout_s': 10}
        response = await (ai.generate_stream(**options).response if streaming else ai.generate(**options))
        assert (response.stop_reason, response.stop_message) == ('timeout', 'timeout_s reached after one turn')
        assert len(response.turns) == 1


async def test_a_run_that_starts_over_goes_on_counting() -> None:
    class Twice(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            await next_fn(params, ctx)
            return await next_fn(params, ctx)

    ai = app('one', turn(ref='1'))
    response = await ai.generate(prompt='hi', tools=[look], use=[Twice()], max_tokens=1)
    assert response.stop_reason in ('max_tokens', 'final')
    assert len(ai.default_model.requests) == 2


@pytest.mark.parametrize(
    'wrong', [{'max_cost_usd': -1}, {'max_cost_usd': '1'}, {'max_tokens': 1.5}, {'max_tokens': True}]
)
def test_a_wrong_limit_is_found_when_the_app_is_built(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Lamella(**wrong)
