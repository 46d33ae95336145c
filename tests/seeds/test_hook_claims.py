"""What the first seed says of hooks, of `next_fn` and of the order of layers."""

from typing import Any

import pytest

from lamella import LamellaError, ModelResponse
from lamella.middleware import BaseMiddleware, GenerateMiddlewareContext
from lamella.types import ConfigError, ToolRequest, ToolResponse
from tests.seeds.samples import printed
from tests.seeds.vendor import world


class Counting(BaseMiddleware):
    """Counts the calls of each hook that the seed names."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def wrap_generate(self, params, ctx: GenerateMiddlewareContext, next_fn):
        self.calls.append('generate')
        return await next_fn(params, ctx)

    async def wrap_model(self, params, ctx: GenerateMiddlewareContext, next_fn):
        self.calls.append('model')
        return await next_fn(params, ctx)

    async def wrap_tool(self, params, ctx: GenerateMiddlewareContext, next_fn):
        self.calls.append('tool')
        return await next_fn(params, ctx)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def asks_to_add(*pairs: tuple[int, int]) -> list[ToolRequest]:
    return [ToolRequest('add', {'a': a, 'b': b}) for a, b in pairs]


async def test_the_hooks_are_called_once_for_each_iteration_each_model_call_and_each_tool() -> None:
    counting = Counting()
    app = world({'m': [asks_to_add((1, 2), (3, 4)), asks_to_add((5, 6)), 'done']})
    await app.ai.generate(prompt='add', tools=[add], use=[counting])
    assert counting.calls == ['generate', 'model', 'tool', 'tool', 'generate', 'model', 'tool', 'generate', 'model']


async def test_an_iteration_holds_its_model_call_and_the_resolution_of_its_tools() -> None:
    turns: list[tuple[int, list[Any]]] = []

    class Turns(BaseMiddleware):
        async def wrap_generate(self, params, ctx, next_fn):
            response = await next_fn(params, ctx)
            outputs = [part.tool_response.output for part in response.tool_responses]
            turns.append((params.iteration, outputs))
            return response

    app = world({'m': [asks_to_add((1, 2), (3, 4)), 'done']})
    await app.ai.generate(prompt='add', tools=[add], use=[Turns()])
    assert turns == [(0, [3, 7]), (1, [])]


async def test_the_order_of_two_layers_is_the_one_that_the_page_shows() -> None:
    trace: list[str] = []

    class Traced(BaseMiddleware):
        def __init__(self, label: str, depth: int) -> None:
            self.label, self.indent = label, '    ' * depth

        async def wrap_model(self, params, ctx, next_fn):
            trace.append(f'{self.indent}{self.label}.wrap_model (before)')
            response = await next_fn(params, ctx)
            trace.append(f'{self.indent}{self.label}.wrap_model (after)')
            return response

    def model_call(request: Any) -> str:
        trace.append('        model call')
        return 'hi'

    app = world({'m': [model_call]})
    await app.ai.generate(prompt='hi', use=[Traced('A', 0), Traced('B', 1)])
    assert '\n'.join(trace) + '\n' == printed('text')['execution order of two layers']


@pytest.mark.parametrize('hook', ['wrap_generate', 'wrap_model', 'wrap_tool'])
async def test_the_first_layer_in_the_list_is_the_outermost_in_every_hook(hook: str) -> None:
    trace: list[str] = []

    def layer(label: str) -> BaseMiddleware:
        async def wrap(self, params, ctx, next_fn):
            trace.append(f'{label} before')
            response = await next_fn(params, ctx)
            trace.append(f'{label} after')
            return response

        return type(label, (BaseMiddleware,), {hook: wrap})()

    app = world({'m': [asks_to_add((1, 2)), 'done']})
    await app.ai.generate(prompt='add', tools=[add], use=[layer('A'), layer('B')])
    assert trace[:4] == ['A before', 'B before', 'B after', 'A after']


async def test_not_calling_next_fn_intercepts_and_a_returned_response_takes_the_models_place() -> None:
    class Canned(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            return ModelResponse.text_of('from the layer')

    app = world({'m': ['from the model']})
    response = await app.ai.generate(prompt='hi', use=[Canned()])
    assert response.text == 'from the layer'
    assert app.asked == []


async def test_calling_next_fn_once_hands_on_what_it_returns() -> None:
    class Through(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            return await next_fn(params, ctx)

    app = world({'m': ['from the model']})
    assert (await app.ai.generate(prompt='hi', use=[Through()])).text == 'from the model'
    assert app.asked == ['m']


async def test_next_fn_may_be_called_many_times() -> None:
    class BestOfThree(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            answers = [await next_fn(params, ctx) for _ in range(3)]
            return max(answers, key=lambda answer: len(answer.text))

    app = world({'m': ['a', 'the longest', 'bb']})
    assert (await app.ai.generate(prompt='hi', use=[BestOfThree()])).text == 'the longest'
    assert app.asked == ['m', 'm', 'm']


async def test_a_layer_may_change_the_answer_on_its_way_out() -> None:
    class Shout(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            return ModelResponse.text_of((await next_fn(params, ctx)).text.upper())

    app = world({'m': ['quiet']})
    assert (await app.ai.generate(prompt='hi', use=[Shout()])).text == 'QUIET'


async def test_raising_an_exception_aborts_the_call() -> None:
    class Closed(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise LamellaError('PERMISSION_DENIED', 'not on Sundays')

    app = world({'m': ['hi']})
    with pytest.raises(LamellaError, match='PERMISSION_DENIED: not on Sundays'):
        await app.ai.generate(prompt='hi', use=[Closed()])
    assert app.asked == []


async def test_a_tool_hook_may_change_what_the_tool_answered() -> None:
    class Rounded(BaseMiddleware):
        async def wrap_tool(self, params, ctx, next_fn):
            answered = await next_fn(params, ctx)
            return ToolResponse(answered.name, answered.output * 10, answered.ref)

    app = world({'m': [asks_to_add((1, 2)), 'done']})
    await app.ai.generate(prompt='add', tools=[add], use=[Rounded()])
    (answer,) = app.vendor.models['m'].requests[1].messages[-1].tool_responses
    assert answer.tool_response.output == 30


async def test_a_layer_is_passed_as_an_instance() -> None:
    app = world({'m': ['hi']})
    with pytest.raises(
        ConfigError, match=r'use\[0\] is the class Counting, not a layer: give an instance, Counting\(\)'
    ):
        await app.ai.generate(prompt='hi', use=[Counting])


async def test_layers_stand_around_a_stream_in_the_same_order() -> None:
    trace: list[str] = []

    def layer(label: str) -> BaseMiddleware:
        async def wrap(self, params, ctx, next_fn):
            trace.append(f'{label} before')
            response = await next_fn(params, ctx)
            trace.append(f'{label} after {response.text}')
            return response

        return type(label, (BaseMiddleware,), {'wrap_model': wrap})()

    app = world({'m': ['hello']})
    stream = app.ai.generate_stream(prompt='hi', use=[layer('A'), layer('B')])
    assert ''.join([piece async for piece in stream.text_stream]) == 'hello'
    assert trace == ['A before', 'B before', 'B after hello', 'A after hello']
