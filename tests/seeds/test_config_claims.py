"""What the first seed says of settings, of names and registration, of the plugin, and its quick reference."""

from typing import Any

import pytest
from pydantic import BaseModel

from lamella import Lamella, Stack
from lamella.middleware import BaseMiddleware
from lamella.plugins.middleware import Fallback, Middleware, Retry, ToolApproval
from lamella.types import ConfigError, LamellaError
from tests.seeds import samples
from tests.seeds.vendor import World, fails, world


class BudgetConfig(BaseModel):
    max_tokens: int = 4000
    warn_at: int = 3000


class Budget(BaseMiddleware[BudgetConfig]):
    """The sample's shape: settings, and nothing else."""


def test_settings_are_given_as_keywords_or_as_an_object() -> None:
    assert Budget(max_tokens=8000).config == Budget(config=BudgetConfig(max_tokens=8000)).config
    assert Budget().config == BudgetConfig()


def test_not_both_at_once() -> None:
    with pytest.raises(ConfigError, match=r'config= or keywords \(max_tokens\), not both'):
        Budget(config=BudgetConfig(), max_tokens=8000)


def test_every_problem_is_in_one_error_and_unknown_settings_are_never_ignored() -> None:
    with pytest.raises(ConfigError) as caught:
        Budget(max_token=1, warn_at='soon')
    assert "unknown setting 'max_token': did you mean 'max_tokens'?" in str(caught.value)
    assert 'warn_at: Input should be a valid integer' in str(caught.value)


async def budget_sample(app: World, words: int) -> dict[str, Any]:
    return await samples.run('config', {'ai': app.ai, 'very_long_document': 'word ' * words})


async def test_the_printed_budget_lets_a_short_document_pass(capsys: pytest.CaptureFixture[str]) -> None:
    names = await budget_sample(world({'m': ['read']}), 100)
    assert names['response'].text == 'read'
    assert capsys.readouterr().out == ''


async def test_the_printed_budget_warns_when_a_document_comes_near(capsys: pytest.CaptureFixture[str]) -> None:
    names = await budget_sample(world({'m': ['read']}), 5000)
    assert names['response'].text == 'read'
    assert capsys.readouterr().out == '[budget] Warning: 6500 tokens approaching limit\n'


async def test_the_printed_budget_blocks_a_document_that_is_too_long() -> None:
    app = world({'m': ['read']})
    with pytest.raises(ValueError, match='Request exceeds token budget: 13000 > 8000'):
        await budget_sample(app, 10_000)
    assert app.asked == []


async def test_the_printed_layer_takes_its_settings_both_ways() -> None:
    names = await budget_sample(world({'m': ['read']}), 10)
    layer, config = names['TokenBudgetMiddleware'], names['BudgetConfig']
    assert layer(max_tokens=8000).config == layer(config=config(max_tokens=8000)).config


@pytest.mark.parametrize('name', ['a/b', 'a:b', 'a b', 'a\tb', 'a\n', ' ', ''])
def test_a_name_that_is_not_one_token_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match='use a single token without slash, colon or whitespace'):
        Lamella().middleware(name=name)(Budget)


@pytest.mark.parametrize('name', ['telemetry_mw', 'telemetry-mw', 'telemetry.mw', 'Telemetry2'])
def test_a_name_that_is_one_token_is_taken(name: str) -> None:
    ai = Lamella()

    class Named(BaseMiddleware):
        pass

    assert ai.middleware(name=name)(Named) is Named
    assert ai.registry.layer(name) is Named


async def test_the_printed_registration_puts_the_class_under_its_name() -> None:
    ai = Lamella()
    names = await samples.run('registering', {'ai': ai, **samples.imported_above()})
    assert ai.registry.layer('telemetry_mw') is names['TelemetryMiddleware']


async def test_registration_is_not_needed_to_use_a_layer() -> None:
    seen: list[str] = []

    class Unregistered(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            seen.append(params.model.name)
            return await next_fn(params, ctx)

    app = world({'m': ['hi']})
    await app.ai.generate(prompt='hi', use=[Unregistered()])
    assert seen == ['googleai/m']
    with pytest.raises(LamellaError, match="unknown middleware 'unregistered'"):
        app.ai.registry.layer('unregistered')


@pytest.mark.parametrize(('name', 'layer'), [('retry', Retry), ('fallback', Fallback), ('tool_approval', ToolApproval)])
def test_the_plugin_registers_the_built_in_layers_by_name(name: str, layer: type) -> None:
    assert Lamella(plugins=[Middleware()]).registry.layer(name) is layer


async def test_with_the_plugin_layers_are_still_passed_as_instances() -> None:
    app = world({'m': ['hi']}, plugins=[Middleware()])
    with pytest.raises(ConfigError, match=r"use\[0\] is str 'retry', not a layer"):
        await app.ai.generate(prompt='hi', use=['retry'])
    assert (await app.ai.generate(prompt='hi', use=[Retry()])).text == 'hi'


@pytest.mark.parametrize(
    ('layer', 'hook'),
    [(Retry(), 'wrap_model'), (Fallback(models=['googleai/f']), 'wrap_model'), (ToolApproval(), 'wrap_tool')],
)
def test_the_built_in_layers_have_the_hooks_of_the_quick_reference(layer: BaseMiddleware[Any], hook: str) -> None:
    assert hook in Stack([layer]).hooks


def patterns() -> dict[str, str]:
    """The lines of the quick reference by the comment above each."""
    lines = [line for line in samples.program('common patterns').splitlines() if line]
    return dict(zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.parametrize('comment', patterns())
async def test_the_common_patterns_are_stacks_that_work(comment: str) -> None:
    """The last line has a placeholder in its list of models, the only thing on the page that is not code."""
    line = patterns()[comment].replace('models=[...]', "models=['googleai/gemini-flash-latest']")
    app = world({'m': [fails('UNAVAILABLE'), 'hi'], 'gemini-flash-latest': ['hi']})
    logging = await samples.run('logging', {})
    catalog = {'Retry': Retry, 'Fallback': Fallback, 'ToolApproval': ToolApproval}
    names = await samples.execute(line, comment, {**logging, **catalog})
    if 'approval' in comment:
        app = world({'m': ['hi']})
    assert (await app.ai.generate(prompt='hi', use=names['use'])).text == 'hi'


def test_there_are_five_common_patterns() -> None:
    assert len(patterns()) == 5
