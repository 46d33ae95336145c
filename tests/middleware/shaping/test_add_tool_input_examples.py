"""`AddToolInputExamples`: a tool's examples are in the description that the model reads."""

import asyncio
from typing import Any

import pytest

from lamella import Lamella, Tool, wrap_language_model
from lamella.middleware import AddToolInputExamples, Fallback, Retry
from lamella.testing import ScriptedModel, checked
from lamella.types import ConfigError, ToolDefinition, ToolRequest
from tests.middleware.kit import both, down, no_leaks, world

EXAMPLES = [{'input': {'city': 'Bergen'}}, {'input': {'city': 'São Paulo', 'days': 3}}]
TOLD = 'Input Examples:\n{"city":"Bergen"}\n{"city":"São Paulo","days":3}'
LAYER = AddToolInputExamples()


def weather(description: str = 'The weather.', **metadata: Any) -> Tool:
    return Tool('weather', description, {'type': 'object'}, lambda given: 'rain', metadata=metadata or None)


async def told(*use: Any, tools: list[Any]) -> tuple[ToolDefinition, ...]:
    """The tools as the model saw them, which must be the same whole and streamed."""
    app = world({'x/a': ['hi', 'hi']})
    whole = await app.answer(checked(*use), tools=tools)
    assert getattr(whole, 'text', whole) == 'hi'
    assert (await app.read(checked(*use), tools=tools))[1] is None
    first, second = app.models['x/a'].requests
    assert first == second
    return first.tools


async def test_the_examples_follow_the_description() -> None:
    (tool,) = await told(LAYER, tools=[weather(input_examples=EXAMPLES)])
    assert tool == ToolDefinition('weather', f'The weather.\n\n{TOLD}', {'type': 'object'})


async def test_without_a_description_they_are_it() -> None:
    (tool,) = await told(LAYER, tools=[weather('', input_examples=EXAMPLES)])
    assert tool.description == TOLD


async def test_a_tool_without_examples_stays_as_it_is() -> None:
    plain, empty, other = await told(
        LAYER,
        tools=[
            Tool('plain', 'Plain.', {'type': 'object'}, lambda given: 1),
            Tool('empty', 'Empty.', {'type': 'object'}, lambda given: 1, metadata={'input_examples': []}),
            Tool('other', 'Other.', {'type': 'object'}, lambda given: 1, metadata={'input_examples': EXAMPLES, 'k': 1}),
        ],
    )
    assert (plain.description, empty.description, empty.metadata) == ('Plain.', 'Empty.', {'input_examples': []})
    assert (other.description, other.metadata) == (f'Other.\n\n{TOLD}', {'k': 1})


async def test_prefix_and_format_are_the_callers() -> None:
    layer = AddToolInputExamples(
        prefix='Such as', format=lambda example, index: f'{index + 1}. {example["input"]["city"]}'
    )
    (tool,) = await told(layer, tools=[weather(input_examples=EXAMPLES)])
    assert tool.description == 'The weather.\n\nSuch as\n1. Bergen\n2. São Paulo'


async def test_the_examples_may_stay_in_the_metadata() -> None:
    layer = AddToolInputExamples(remove=False)
    for use in ([layer], [layer, layer]):
        (tool,) = await told(*use, tools=[weather(input_examples=EXAMPLES)])
        assert (tool.description, tool.metadata) == (f'The weather.\n\n{TOLD}', {'input_examples': EXAMPLES})


async def test_every_attempt_and_every_model_gets_them_once() -> None:
    app = world({'x/a': [down(), down()], 'y/b': ['hi']})
    tool = weather(input_examples=EXAMPLES)
    for use in ([Fallback(models=['y/b']), Retry(max_retries=1), LAYER],):
        assert (await app.answer(*use, tools=[tool])).text == 'hi'
    asked = [request.tools[0].description for model in app.models.values() for request in model.requests]
    assert asked == [f'The weather.\n\n{TOLD}'] * 3
    assert tool.definition.metadata == {'input_examples': EXAMPLES}
    assert tool.description == 'The weather.'


async def test_the_tool_still_runs_and_whole_and_streamed_runs_agree() -> None:
    def app() -> Lamella:
        return world({'x/a': [ToolRequest('weather', {'city': 'Bergen'}, 'r-1'), 'It rains.']}).ai

    answer = await both(app, prompt='hi', tools=[weather(input_examples=EXAMPLES)], use=[checked(LAYER)])
    assert (answer.text, answer.turns[0].tool_responses[0].tool_response.output) == ('It rains.', 'rain')


async def test_it_works_fixed_on_a_model_and_for_concurrent_calls() -> None:
    inner = ScriptedModel(['hi'], repeat=True)
    model = wrap_language_model(model=inner, middleware=LAYER)
    tools = [weather(input_examples=[{'input': n}]) for n in range(50)]
    await asyncio.gather(*[Lamella().generate(model=model, prompt='hi', tools=[tool]) for tool in tools])
    lines = [request.tools[0].description.splitlines()[-1] for request in inner.requests]
    assert sorted(map(int, lines)) == [*range(50)]


@pytest.mark.parametrize(
    ('examples', 'problem'),
    [
        ('Bergen', r"tool 'weather': metadata\['input_examples'\] is 'Bergen': give a list of \{'input': …\}"),
        ([{'city': 'Bergen'}], r"\['input_examples'\]\[0\] is \{'city': 'Bergen'\}: give a list"),
        ([{'input': 1}, 'x'], r"\['input_examples'\]\[1\] is 'x': give a list"),
        ([{'input': {'a': object()}}], r"\['input_examples'\]\[0\] is not JSON"),
    ],
)
async def test_examples_of_another_shape_are_refused(examples: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        await Lamella(model=ScriptedModel(['hi'])).generate(
            prompt='hi', tools=[weather(input_examples=examples)], use=[LAYER]
        )


async def test_a_format_must_return_text() -> None:
    layer = AddToolInputExamples(format=lambda example, index: None)
    with pytest.raises(ConfigError, match="format returned None for tool 'weather': return text"):
        await Lamella(model=ScriptedModel(['hi'])).generate(
            prompt='hi', tools=[weather(input_examples=EXAMPLES)], use=[layer]
        )


async def test_a_cancellation_passes() -> None:
    entered = asyncio.Event()

    async def waits(request: Any) -> str:
        entered.set()
        await asyncio.Event().wait()
        return 'never'

    app = world({'x/a': [waits]})
    async with no_leaks():
        task = asyncio.create_task(app.read(LAYER, tools=[weather(input_examples=EXAMPLES)]))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def later(example: Any, index: int) -> str:
    return ''


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'prefix': 3}, r'prefix: Input should be a valid string \(given 3\)'),
        ({'format': 'json'}, r"format: .*is 'json': give a function of \(example, index\)"),
        ({'format': later}, r'format: .*later is async: give a plain function'),
        ({'remove': 'no'}, 'remove: Input should be a valid boolean'),
        ({'prefx': 'x'}, r"unknown setting 'prefx'.*'prefix'"),
    ],
)
def test_wrong_settings_are_refused_when_it_is_built(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        AddToolInputExamples(**options)
