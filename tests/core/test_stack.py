"""The fold: order, flattening, once, and the picture of the onion."""

from typing import Any

import pytest

from lamella import Lamella, Stack
from lamella.middleware import BaseMiddleware
from lamella.testing import ScriptedModel
from lamella.types import ConfigError, Finished, ResponseStarted, TextDelta, ToolRequest
from tests.engine.kit import app, both
from tests.engine.strategies import Both, GenerateOnly, ModelOnly, StreamOnly, Transforms, echo


class Notes(BaseMiddleware):
    """Writes down every hook as it is entered and left."""

    def __init__(self, label: str, log: list[str]) -> None:
        super().__init__()
        self.label, self.log = label, log

    def __repr__(self) -> str:
        return f'Notes({self.label})'

    async def note(self, hook, params, ctx, next_fn):
        self.log.append(f'{hook} {self.label} in')
        try:
            return await next_fn(params, ctx)
        finally:
            self.log.append(f'{hook} {self.label} out')

    async def wrap_run(self, params, ctx, next_fn):
        return await self.note('run', params, ctx, next_fn)

    async def wrap_generate(self, params, ctx, next_fn):
        return await self.note('turn', params, ctx, next_fn)

    async def transform_params(self, params, ctx):
        self.log.append(f'params {self.label}')
        return params

    async def wrap_model(self, params, ctx, next_fn):
        return await self.note('model', params, ctx, next_fn)

    async def wrap_tool(self, params, ctx, next_fn):
        return await self.note('tool', params, ctx, next_fn)


@pytest.mark.parametrize('streaming', [False, True])
async def test_the_first_layer_is_the_outermost_in_every_hook(streaming) -> None:
    log: list[str] = []
    a, b = Notes('a', log), Notes('b', log)
    ai = app(ToolRequest('echo', {'text': 'x'}, 'r'), 'done')
    options = {'prompt': 'x', 'tools': [echo], 'use': [a, b], 'max_turns': 1}
    if streaming:
        await ai.generate_stream(**options).response
    else:
        await ai.generate(**options)
    assert log == [
        'run a in', 'run b in', 'turn a in', 'turn b in', 'params a', 'model a in', 'params b', 'model b in',
        'model b out', 'model a out', 'tool a in', 'tool b in', 'tool b out', 'tool a out',
        'turn b out', 'turn a out', 'run b out', 'run a out',
    ]  # fmt: skip


@pytest.mark.parametrize('streaming', [False, True])
async def test_layers_of_both_kinds_stand_in_one_order(streaming) -> None:
    log: list[str] = []

    def noting(label: str, kind: str) -> BaseMiddleware:
        async def model(self, params, ctx, next_fn):
            log.append(label)
            return await next_fn(params, ctx)

        async def stream(self, params, ctx, next_fn):
            log.append(label)
            async for part in next_fn(params, ctx):
                yield part

        async def transform(self, params, ctx):
            log.append(label)
            return params

        hook = {'wrap_model': model, 'wrap_stream': stream, 'transform_params': transform}[kind]
        return type('Noting', (BaseMiddleware,), {kind: hook})()

    kinds = [
        'wrap_model',
        'wrap_stream',
        'transform_params',
        'wrap_model',
        'transform_params',
        'wrap_stream',
        'transform_params',
    ]
    use = [noting(f'{n}', kind) for n, kind in enumerate(kinds)]
    ai = app('x')
    await (ai.generate_stream(prompt='x', use=use).response if streaming else ai.generate(prompt='x', use=use))
    assert log == ['0', '1', '2', '3', '4', '5', '6']


async def test_changes_to_the_request_add_up_from_the_outside_in() -> None:
    def adds(word: str, *, also_wraps: bool) -> BaseMiddleware:
        async def transform(self, params, ctx):
            metadata = {**params.request.metadata, 'path': params.request.metadata.get('path', '') + word}
            return params.replace(request=params.request.replace(metadata=metadata))

        body: dict[str, Any] = {'transform_params': transform}
        if also_wraps:
            body['wrap_model'] = ModelOnly.wrap_model
        return type('Adds', (BaseMiddleware,), body)()

    model = ScriptedModel(['x'], repeat=True)
    use = [
        adds('a', also_wraps=True),
        StreamOnly(),
        adds('b', also_wraps=False),
        adds('c', also_wraps=True),
        adds('d', also_wraps=False),
    ]
    await both(lambda: Lamella(model=model), prompt='x', use=use)
    assert [request.metadata for request in model.requests] == [{'path': 'abcd'}] * 2


def test_a_stack_inside_a_stack_is_its_layers() -> None:
    a, b, c = ModelOnly(), StreamOnly(), Both()
    assert Stack([a, Stack([b, Stack([c])]), Stack()]).layers == (a, b, c)
    assert len(Stack([a, Stack([b])])) == 2


def test_the_same_layer_twice_stays_twice() -> None:
    a = ModelOnly()
    assert Stack([a, a]).layers == (a, a)


def test_stacks_of_the_same_layers_are_equal() -> None:
    a, b = ModelOnly(), StreamOnly()
    assert Stack([a, b]) == Stack([a, Stack([b])])
    assert hash(Stack([a, b])) == hash(Stack([a, b]))
    assert Stack([a, b]) != Stack([b, a])
    assert Stack([a]) != [a]


def test_a_stack_cannot_be_changed_by_the_list_it_came_from() -> None:
    layers = [ModelOnly()]
    stack = Stack(layers)
    layers.append(StreamOnly())
    assert len(stack) == 1
    assert Stack(layer for layer in layers).layers == tuple(layers)


@pytest.mark.parametrize(
    ('layers', 'pieces'),
    [
        ('retry', ['use=', 'list of layers', "'retry'"]),
        (ModelOnly(), ['use=', 'use=[']),
        (5, ['use=', '5']),
        (None, ['use=', 'None']),
        (['retry'], ['use[0]', "'retry'", 'not its name']),
        ([ModelOnly(), ModelOnly], ['use[1]', 'the class ModelOnly', 'ModelOnly()']),
        ([None], ['use[0]', 'NoneType']),
        ([print], ['use[0]', 'BaseMiddleware']),
        ([[ModelOnly()]], ['use[0]', 'list']),
        ([dict], ['use[0]', 'the class dict']),
    ],
    ids=repr,
)
def test_what_is_no_layer_is_refused_with_its_place(layers, pieces) -> None:
    with pytest.raises(ConfigError) as caught:
        Stack(layers)
    for piece in pieces:
        assert piece in str(caught.value)


def test_explain_draws_the_onion() -> None:
    assert Stack([ModelOnly(), GenerateOnly(), Both(), BaseMiddleware(), Transforms()]).explain() == (
        'ModelOnly()  [wrap_model]\n'
        '  GenerateOnly()  [wrap_generate]\n'
        '    Both()  [wrap_model, wrap_stream]\n'
        '      BaseMiddleware()  [no hooks]\n'
        '        Transforms()  [transform_params]\n'
        '          model call'
    )
    assert Stack().explain() == 'model call'


def test_each_kind_of_call_is_folded_once() -> None:
    stack = Stack([ModelOnly(), GenerateOnly()])

    async def innermost(params, ctx):
        return None

    assert stack.model is stack.model
    assert stack.stream is stack.stream
    assert stack.around('wrap_generate', innermost) is stack.around('wrap_generate', innermost)
    assert stack.around('wrap_run', innermost) is innermost


async def test_a_layer_that_only_knows_streams_works_in_whole_calls() -> None:
    class Shouts(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            async for part in next_fn(params, ctx):
                yield part.replace(text=part.text.upper()) if type(part) is TextDelta else part

    response = await both(lambda: app('quiet'), prompt='x', use=[ModelOnly(), Shouts(), ModelOnly()])
    assert response.text == 'QUIET'


async def test_a_layer_with_both_hooks_uses_one_of_them_in_each_door() -> None:
    used = []

    class Tells(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            used.append('model')
            return await next_fn(params, ctx)

        async def wrap_stream(self, params, ctx, next_fn):
            used.append('stream')
            async for part in next_fn(params, ctx):
                yield part

    await app('x').generate(prompt='x', use=[Tells()])
    await app('x').generate_stream(prompt='x', use=[Tells()]).response
    assert used == ['model', 'stream']


async def test_a_stream_only_layer_in_a_whole_call_sees_a_start_and_an_end() -> None:
    seen = []

    class Looks(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            async for part in next_fn(params, ctx):
                seen.append(type(part))
                yield part

    await app([TextDelta('a'), TextDelta('b')]).generate(prompt='x', use=[Looks()])
    assert seen == [ResponseStarted, TextDelta, Finished]


async def test_layers_are_used_as_given_and_by_all_calls() -> None:
    class Counts(BaseMiddleware):
        def __init__(self):
            super().__init__()
            self.calls = 0

        async def wrap_model(self, params, ctx, next_fn):
            self.calls += 1
            return await next_fn(params, ctx)

    layer = Counts()
    ai = app('x', repeat=True, use=[layer])
    for _ in range(3):
        await ai.generate(prompt='x', use=[layer])
    assert layer.calls == 6
