"""What a call may say, and the one clear error for everything else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, Message, ModelRef, Stack, Tool
from lamella.engine.options import OPTIONS
from lamella.engine.prepare import Stacks
from lamella.middleware import BaseMiddleware
from lamella.testing import ScriptedModel
from lamella.types import (
    ConfigError,
    DataPart,
    GenerationConfig,
    MediaPart,
    ModelResponse,
    TextPart,
    ToolChoice,
    UnknownNameError,
)
from tests.engine.kit import app, both, scripted
from tests.engine.strategies import ModelOnly, StreamOnly

CLEAR = (ConfigError, UnknownNameError, TypeError, ValueError)


async def fails(pattern: str, kind: Any = CLEAR, **options: Any) -> None:
    """Both doors refuse in the same words, and ask no model."""
    ai = app('never')
    options = {'prompt': 'hi', **options}
    with pytest.raises(kind, match=pattern) as whole:
        await ai.generate(**options)
    with pytest.raises(kind, match=pattern) as streamed:
        ai.generate_stream(**options)
    assert str(whole.value) == str(streamed.value)
    assert scripted(ai).requests == []


# ── what is sent ────────────────────────────────────────────────────────────────────────────────────────────────────


async def sent(**options: Any) -> Any:
    ai = app('ok', repeat=True)
    await ai.generate(**options)
    stream = ai.generate_stream(**options)
    await stream.response
    first, second = scripted(ai).requests
    assert first == second
    return first


@pytest.mark.parametrize(
    'text',
    ['', '{{braces}}', '{name} ${x} %s {% if %}', '\ud800 lone', '\x00\x1f', 'ü🙂', 'x' * 10_000_000, ' \n '],
    ids=['empty', 'braces', 'templates', 'surrogate', 'control', 'unicode', '10 MB', 'blank'],
)
async def test_text_is_sent_exactly_as_it_is(text) -> None:
    request = await sent(prompt=text, system=text, messages=[text, {'role': 'assistant', 'content': text}])
    assert [message.text for message in request.messages] == [text] * 4
    assert [message.role for message in request.messages] == ['system', 'user', 'assistant', 'user']


@given(text=st.text())
async def test_any_text_comes_back_as_it_went(text) -> None:
    async def parrot(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of(request.messages[-1].text)

    response = await both(lambda: Lamella(model=parrot), prompt=text)
    assert response.text == text
    assert response.messages[0].text == text


async def test_a_prompt_may_be_parts() -> None:
    picture = MediaPart(url='http://x/y.png')
    request = await sent(prompt=['look', picture, DataPart({'k': 1})])
    assert request.messages[0].content == (TextPart('look'), picture, DataPart({'k': 1}))


async def test_the_prompt_follows_the_messages_and_the_system_goes_first_once() -> None:
    request = await sent(prompt='c', messages=['a', Message.assistant('b')], system='s')
    assert [message.text for message in request.messages] == ['s', 'a', 'b', 'c']
    request = await sent(prompt='c', messages=[Message.system('s'), 'a'], system='s')
    assert [message.text for message in request.messages] == ['s', 'a', 'c']


async def test_messages_of_an_answer_go_on_in_the_next_call() -> None:
    ai = app('one', 'two')
    response = await ai.generate(prompt='a', system='s')
    response = await ai.generate(prompt='b', system='s', messages=response.messages)
    assert [message.text for message in response.messages] == ['s', 'a', 'one', 'b', 'two']


async def test_settings_reach_the_model() -> None:
    request = await sent(
        prompt='x',
        config={'temperature': 0, 'stop_sequences': ['a']},
        provider_options={'acme': {'x': 1}},
        tools=[Tool('t', run=lambda value: value)],
        tool_choice='t',
    )
    assert request.config == GenerationConfig(temperature=0, stop_sequences=('a',))
    assert request.provider_options == {'acme': {'x': 1}}
    assert request.tool_choice == ToolChoice('tool', 't')
    assert [tool.name for tool in request.tools] == ['t']


@pytest.mark.parametrize('choice', ['auto', 'none', 'required', ToolChoice('required')], ids=str)
async def test_tool_choices_by_word(choice) -> None:
    request = await sent(prompt='x', tools=[Tool('t', run=lambda value: value)], tool_choice=choice)
    assert request.tool_choice == (ToolChoice(choice) if isinstance(choice, str) else choice)


async def test_a_model_reference_gives_defaults_that_the_call_overrides() -> None:
    model = ScriptedModel(['ok'], name='acme/one')
    ai = Lamella()
    ai.registry.add_model('acme/one', model)
    wanted = ModelRef('acme/one', config={'temperature': 1, 'seed': 3}, provider_options={'acme': {'a': 1, 'b': 1}})
    await ai.generate(
        model=wanted, prompt='x', config={'temperature': 0.5}, provider_options={'acme': {'b': 2}, 'z': {}}
    )
    assert model.requests[0].config == GenerationConfig(temperature=0.5, seed=3)
    assert model.requests[0].provider_options == {'acme': {'a': 1, 'b': 2}, 'z': {}}


async def test_a_setting_of_zero_wins_over_a_models_default() -> None:
    model = ScriptedModel(['ok'], name='acme/one')
    ai = Lamella()
    ai.registry.add_model('acme/one', model)
    await ai.generate(model=ModelRef('acme/one', config={'temperature': 1.0}), prompt='x', config={'temperature': 0.0})
    assert model.requests[0].config.temperature == 0


# ── wrong options ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('wrong', 'right'),
    [
        ('promt', 'prompt'), ('tool', 'tools'), ('message', 'messages'), ('max_turn', 'max_turns'),
        ('temperature', ''), ('timeout', 'timeout_s'), ('output_shema', 'output_schema'), ('resume_restrat', 'resume_restart'),
    ],
)  # fmt: skip
async def test_an_unknown_option_is_answered_with_the_nearest_name(wrong, right) -> None:
    await fails(f'generate has no option {wrong!r}.*{right}', ConfigError, **{wrong: 'x'})
    ai = app('never')
    with pytest.raises(ConfigError, match=f'generate has no option {wrong!r}'):
        await ai.generate(**{wrong: 'x'})


WRONG: dict[str, list[Any]] = {
    'prompt': [1, 1.5, object(), b'bytes', [1], {'role': 'user'}, {'type': 'nonsense'}],
    'system': [1, ['a'], b'x', Message.system('x')],
    'messages': ['a string', 5, object(), {'role': 'user', 'content': 'x'}, Message.user('x'), [1], [None], [b'x'],
                 [{'role': 'model', 'content': 'x'}], [{'content': 'x'}], [{'role': 'user', 'text': 'x'}],
                 [{'role': 'user', 'content': 3}], [{'role': 'user', 'content': [{'type': 'text'}]}]],
    'tools': ['name', 5, Tool('t', run=print), {'t': 1}, [5], [None], [[print]]],
    'tool_choice': ['atuo', 'no_such_tool', 5, {}, []],
    'config': [5, 'hot', [], {'temprature': 1}, {'temperature': 'hot'}, {'stop_sequences': 'a'}],
    'output_schema': ['Summary', 5, object()],
    'output_format': ['jsno', 5],
    'use': ['retry', 5, BaseMiddleware, ModelOnly, ModelOnly(), ['retry'], [ModelOnly], [None], [print], [[ModelOnly()]]],
    'context': [5, 'x', ['x']],
    'session': ['', 5, b's', ['s'], 'x' * 10_001],
    'max_turns': [0, -1, True, 1.5, '3', 'many'],
    'max_cost_usd': [-1, True, '3', float('nan'), float('inf'), []],
    'max_tokens': [-1, True, 1.5, '3', []],
    'provider_options': [5, 'x', ['x'], {'acme': 5}, {'acme': 'x'}],
    'model': [5, object(), [], type, ScriptedModel],
}  # fmt: skip


@pytest.mark.parametrize(('option', 'value'), [(o, v) for o, values in WRONG.items() for v in values], ids=repr)
async def test_a_wrong_value_is_one_clear_error_that_names_the_option(option, value) -> None:
    await fails('tool' if option == 'tools' else option, **{option: value})


def test_every_option_has_its_wrong_values_here() -> None:
    elsewhere = {'timeout_s', 'resume', 'durable', 'resume_restart', 'resume_respond'}
    assert set(WRONG) | elsewhere == OPTIONS


async def test_nothing_to_ask_is_an_error() -> None:
    for options in ({}, {'messages': []}, {'prompt': None}):
        with pytest.raises(ConfigError, match='nothing to ask'):
            await app('never').generate(**options)


async def test_no_model_is_an_error_that_says_how() -> None:
    with pytest.raises(ConfigError, match='no model'):
        await Lamella().generate(prompt='x')


async def test_none_means_left_out_for_every_option() -> None:
    response = await app('ok').generate(**{'prompt': 'x', **dict.fromkeys(OPTIONS - {'prompt'})})
    assert response.text == 'ok'


async def test_unknown_names_are_answered_with_the_nearest() -> None:
    ai = app('never')

    @ai.tool()
    def get_weather(city: str) -> str:
        return city

    @ai.model('acme/large')
    async def large(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of('x')

    with pytest.raises(UnknownNameError, match="unknown tool 'get_wether': did you mean 'get_weather'"):
        await ai.generate(prompt='x', tools=['get_wether'])
    with pytest.raises(UnknownNameError, match="unknown model 'acme/lrage': did you mean 'acme/large'") as caught:
        await ai.generate(prompt='x', model='acme/lrage')
    assert caught.value.status == 'NOT_FOUND'
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('max_turns', 0), ('max_turns', True), ('max_turns', '5'), ('max_parallel_tools', 0), ('max_parallel_tools', 1.5),
        ('use', 'retry'), ('use', [ModelOnly]), ('use', ModelOnly()), ('plugins', [5]), ('plugins', ['openai']),
    ],
    ids=repr,
)  # fmt: skip
def test_wrong_settings_of_the_app_are_refused_when_it_is_built(field, value) -> None:
    with pytest.raises(ConfigError, match=field):
        Lamella(**{field: value})


# ── the stacks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stack_is_built_once_for_the_same_layers() -> None:
    stacks = Stacks(Stack([ModelOnly()]))
    layer = StreamOnly()
    assert stacks.of([layer]) is stacks.of((layer,))
    assert stacks.of([layer]) is not stacks.of([layer, layer])
    assert [type(one) for one in stacks.of([layer]).layers] == [ModelOnly, StreamOnly]
    assert stacks.of([]) is stacks.of(None)


def test_a_stack_in_use_is_its_layers() -> None:
    stacks = Stacks(Stack())
    a, b = ModelOnly(), StreamOnly()
    assert stacks.of([Stack([a]), b]).layers == stacks.of([Stack([a, Stack([b])])]).layers == (a, b)


def test_the_stacks_that_are_kept_are_bounded() -> None:
    stacks = Stacks(Stack())
    for _ in range(2_000):
        stacks.of([ModelOnly()])
    assert len(stacks._kept) <= 256


def test_a_layer_at_the_address_of_a_forgotten_one_never_gets_its_stack() -> None:
    stacks = Stacks(Stack())
    for n in range(2_000):
        layer = ModelOnly() if n % 2 else StreamOnly()
        assert stacks.of([layer]).layers == (layer,)
        del layer


async def test_app_layers_enclose_call_layers() -> None:
    log = []

    class Notes(BaseMiddleware):
        def __init__(self, label):
            super().__init__()
            self.label = label

        async def wrap_model(self, params, ctx, next_fn):
            log.append(self.label)
            return await next_fn(params, ctx)

    ai = Lamella(model=ScriptedModel(['x'], repeat=True), use=[Notes('app 1'), Notes('app 2')])
    await ai.generate(prompt='x', use=[Notes('call 1'), Notes('call 2')])
    assert log == ['app 1', 'app 2', 'call 1', 'call 2']


async def test_the_error_of_a_layers_own_tools_hook_passes() -> None:
    class Breaks(BaseMiddleware):
        def tools(self, ctx):
            raise LamellaError('INTERNAL', 'no tools today')

    with pytest.raises(LamellaError, match='no tools today'):
        await app('x').generate(prompt='x', use=[Breaks()])
