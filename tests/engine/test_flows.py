"""Flows: functions that stay functions, with checked input and a name."""

from typing import Any

import pytest
from pydantic import BaseModel

from lamella import Lamella
from lamella.engine.flows import Flow, FlowContext
from lamella.types import ConfigError, ModelResponse
from tests.engine.kit import app


class Question(BaseModel):
    text: str
    times: int = 1


@pytest.fixture
def ai() -> Lamella:
    return app('answer', repeat=True)


async def test_a_flow_is_called_like_the_function_it_is(ai) -> None:
    @ai.flow()
    async def ask(question: Question) -> str:
        """Asks."""
        return (await ai.generate(prompt=question.text)).text * question.times

    assert await ask(Question(text='x', times=2)) == 'answeranswer'
    assert await ask(question=Question(text='x')) == 'answer'
    assert (ask.name, ask.__doc__, ask.__name__) == ('ask', 'Asks.', 'ask')
    assert ai.registry.flows['ask'] is ask


async def test_a_flow_run_with_json_checks_its_input(ai) -> None:
    @ai.flow('asking')
    async def ask(question: Question) -> int:
        return question.times

    assert await ask.run({'text': 'x', 'times': 3}) == 3
    assert ask.input_schema == Question.model_json_schema()
    with pytest.raises(ConfigError, match=r"flow 'asking': .*text.*"):
        await ask.run({'times': 3})
    with pytest.raises(ConfigError, match='times'):
        await ask.run({'text': 'x', 'times': 'many'})


async def test_a_flow_may_take_the_context_second_or_alone(ai) -> None:
    @ai.flow()
    async def both(text: str, ctx: FlowContext) -> Any:
        return text, ctx.context, ctx.ai

    @ai.flow()
    async def alone(ctx: FlowContext) -> Any:
        return ctx.context

    assert await both('x') == ('x', {}, ai)
    assert await both('x', FlowContext(ai, {'a': 1})) == ('x', {'a': 1}, ai)
    assert await both.run('x', context={'tenant': 'acme'}) == ('x', {'tenant': 'acme'}, ai)
    assert await alone() == {}
    assert await alone.run(context={'a': 1}) == {'a': 1}
    assert alone.input_schema == {}


async def test_a_flow_without_input_runs_and_one_with_a_default_uses_it(ai) -> None:
    @ai.flow()
    async def nothing() -> str:
        return 'done'

    assert await nothing() == await nothing.run() == 'done'


async def test_an_exception_of_a_flow_passes(ai) -> None:
    @ai.flow()
    async def breaks() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await breaks()
    with pytest.raises(ZeroDivisionError):
        await breaks.run()


def test_a_flow_must_be_async(ai) -> None:
    with pytest.raises(ConfigError, match='async def'):
        ai.flow()(lambda x: x)


def test_run_main_runs_a_flow(ai) -> None:
    @ai.flow()
    async def ask(text: str) -> str:
        return (await ai.generate(prompt=text)).text

    assert ai.run_main(ask('x')) == 'answer'
    assert isinstance(ask, Flow)


async def test_flows_call_flows(ai) -> None:
    @ai.flow()
    async def inner(n: int) -> int:
        return n + 1

    @ai.flow()
    async def outer(n: int) -> int:
        return await inner(n) * 10

    assert await outer.run(1) == 20


async def test_a_flow_may_be_a_model(ai) -> None:
    @ai.model('flow/model')
    async def model(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of('from the flow')

    assert (await ai.generate(prompt='x', model='flow/model')).text == 'from the flow'


async def test_a_flow_with_a_default_input_can_be_run_without_one(ai) -> None:
    @ai.flow()
    async def greet(name: str = 'you') -> str:
        return f'hello {name}'

    assert await greet() == 'hello you'
    assert await greet.run('ann') == 'hello ann'
    assert await greet.run() == 'hello you'
