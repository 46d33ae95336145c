"""What a layer is: its hooks and its name, and what is refused before anything runs."""

import functools
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lamella.core.middleware import HOOKS, BaseMiddleware, snake_case
from lamella.testing import ScriptedModel
from lamella.types import ConfigError
from tests.engine.kit import app


class Limits(BaseModel):
    max_calls: int = 3
    per_s: float = 1.0
    mode: Literal['hard', 'soft'] = 'hard'


class Limit(BaseMiddleware[Limits]):
    """Takes settings."""


def problem(build: Any, *pieces: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build()
    for piece in pieces:
        assert piece in str(caught.value), str(caught.value)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_are_given_as_keywords_or_as_an_object_and_are_the_same() -> None:
    assert Limit().config == Limits()
    assert Limit(max_calls=5).config == Limit(config=Limits(max_calls=5)).config == Limit(Limits(max_calls=5)).config
    given = Limits(max_calls=1)
    assert Limit(given).config is given


def test_settings_given_both_ways_are_refused() -> None:
    problem(lambda: Limit(config=Limits(), max_calls=1), 'Limit', 'config=', 'max_calls', 'not both')


def test_settings_of_another_kind_are_refused() -> None:
    class Other(BaseModel):
        max_calls: int = 3

    problem(lambda: Limit(config=Other()), 'Limit', 'Other', 'Limits')
    problem(lambda: Limit(config={'max_calls': 1}), 'dict', 'Limits')
    problem(lambda: Limit(5), 'int', 'Limits')


def test_every_problem_is_told_in_one_error_with_the_nearest_name() -> None:
    problem(
        lambda: Limit(max_cals=1, per_s='fast', mode='medium'),
        "unknown setting 'max_cals': did you mean 'max_calls'", 'per_s', "'fast'", 'mode', "'medium'",
    )  # fmt: skip


@pytest.mark.parametrize('extra', ['ignore', 'allow', 'forbid'])
def test_an_unknown_key_is_an_error_whatever_the_users_model_would_do(extra) -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(extra=extra)
        size: int = 1

    class Layer(BaseMiddleware[Loose]):
        """Takes loose settings."""

    problem(lambda: Layer(sise=2), "unknown setting 'sise': did you mean 'size'")


def test_an_alias_is_the_name_of_a_setting() -> None:
    class Aliased(BaseModel):
        max_calls: int = Field(default=3, alias='maxCalls')

    class Both(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        max_calls: int = Field(default=3, alias='maxCalls')

    class Layer(BaseMiddleware[Aliased]):
        """By alias."""

    class Second(BaseMiddleware[Both]):
        """By either."""

    assert Layer(maxCalls=5).config.max_calls == 5
    problem(lambda: Layer(max_calls=5), "'max_calls'")
    assert Second(max_calls=5).config == Second(maxCalls=5).config


def test_a_required_setting_that_is_missing_is_named() -> None:
    class Needs(BaseModel):
        model: str

    class Layer(BaseMiddleware[Needs]):
        """Needs a model."""

    problem(Layer, 'Layer', 'model', 'required')


def test_a_rule_over_several_settings_is_told() -> None:
    class Ordered(BaseModel):
        low: int = 0
        high: int = 1

        @model_validator(mode='after')
        def in_order(self) -> 'Ordered':
            if self.low > self.high:
                raise ValueError('low must not be above high')
            return self

    class Layer(BaseMiddleware[Ordered]):
        """Has a rule."""

    problem(lambda: Layer(low=5), 'low must not be above high')


def test_zero_means_zero_and_none_means_none() -> None:
    class Settings(BaseModel):
        limit: Annotated[int | None, Field(ge=0)] = 3

    class Layer(BaseMiddleware[Settings]):
        """Takes zero."""

    assert Layer(limit=0).config.limit == 0
    assert Layer(limit=None).config.limit is None


def test_a_layer_without_settings_takes_none() -> None:
    class Plain(BaseMiddleware):
        """Has none."""

    assert Plain().config is not None
    problem(lambda: Plain(size=1), 'Plain takes no settings', "'size'")
    problem(lambda: Plain(config=Limits()), 'Plain takes no settings')


def test_settings_are_inherited_and_may_be_replaced() -> None:
    class Wider(Limits):
        extra: int = 0

    class Child(Limit):
        """Takes the same."""

    class Other(Limit, BaseMiddleware[Wider]):
        """Takes more."""

    assert Child(max_calls=9).config.max_calls == 9
    assert Other(extra=1, max_calls=2).config == Wider(extra=1, max_calls=2)


def test_a_layer_shows_the_settings_that_were_given() -> None:
    assert repr(Limit()) == 'Limit()'
    assert repr(Limit(max_calls=5)) == 'Limit(max_calls=5)'


def test_a_layer_with_an_init_of_its_own_needs_no_super() -> None:
    class Own(BaseMiddleware):
        def __init__(self, size):
            self.size = size

        async def wrap_model(self, params, ctx, next_fn):
            return await next_fn(params, ctx)

    assert repr(Own(3)) == 'Own()'


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('name', 'wanted'),
    [
        ('Retry', 'retry'),
        ('ToolApproval', 'tool_approval'),
        ('PIIRedaction', 'pii_redaction'),
        ('A', 'a'),
        ('OTel2X', 'o_tel2_x'),
    ],
)
def test_a_layer_is_named_after_its_class(name, wanted) -> None:
    assert snake_case(name) == wanted
    assert type(name, (BaseMiddleware,), {}).name == wanted


def test_a_layer_may_name_itself_and_its_children_name_themselves() -> None:
    class Named(BaseMiddleware):
        name = 'given'

    class Child(Named):
        """Has its own."""

    assert (Named.name, Child.name) == ('given', 'child')


# ── hooks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def three(self, params, ctx, next_fn):
    return await next_fn(params, ctx)


async def two(self, params, ctx):
    return params


async def parts(self, params, ctx, next_fn):
    async for part in next_fn(params, ctx):
        yield part


def layer(**body: Any) -> type[BaseMiddleware]:
    return type('Layer', (BaseMiddleware,), body)


@pytest.mark.parametrize(
    ('wrong', 'right'),
    [
        ('wrap_modle', 'wrap_model'), ('wrap_tools', 'wrap_tool'), ('wrap_steam', 'wrap_stream'),
        ('transform_param', 'transform_params'), ('wrap_generation', 'wrap_generate'), ('wrapModel', 'wrap_model'),
        ('transformParams', 'transform_params'), ('wrap_anything', ''),
    ],
)  # fmt: skip
def test_a_misspelled_hook_is_refused_with_the_right_name(wrong, right) -> None:
    problem(layer(**{wrong: three}), f"'{wrong}' is not a hook", right)


def test_other_methods_may_have_any_name() -> None:
    layer(helper=three, _wrap=three, unwrap=three, rewrap_model=three, before_model=three)()


SHAPES: list[tuple[str, Any]] = [
    ('wrap_model', two), ('wrap_model', parts), ('wrap_model', lambda self, params, ctx, next_fn: None),
    ('wrap_stream', three), ('wrap_stream', two), ('wrap_stream', lambda self, params, ctx, next_fn: None),
    ('wrap_tool', two), ('wrap_run', parts), ('wrap_generate', two), ('transform_params', three),
    ('transform_params', lambda self, params, ctx: params), ('tools', two), ('wrap_model', 5), ('wrap_model', None),
    ('tools', []), ('wrap_stream', 'x'),
]  # fmt: skip


@pytest.mark.parametrize(('hook', 'function'), SHAPES, ids=lambda value: getattr(value, '__name__', str(value)))
def test_a_hook_of_the_wrong_shape_is_refused_when_it_is_built(hook, function) -> None:
    problem(layer(**{hook: function}), 'Layer', hook)


def test_an_async_tools_hook_is_refused() -> None:
    async def tools(self, ctx):
        return ()

    problem(layer(tools=tools), 'tools', 'not async')


def test_every_problem_of_a_class_is_told_at_once() -> None:
    problem(layer(wrap_modle=three, wrap_tool=two, wrap_stream=three), 'wrap_modle', 'wrap_tool', 'wrap_stream')


def test_hooks_with_other_names_of_arguments_defaults_and_stars_are_fine() -> None:
    async def named(self, request, context, call):
        return await call(request, context)

    async def stars(self, *args):
        return await args[2](*args[:2])

    async def more(self, params, ctx, next_fn, again=1):
        return await next_fn(params, ctx)

    for hook in (named, stars, more):
        assert layer(wrap_model=hook)()._hooks == {'wrap_model'}


def test_static_and_class_methods_and_decorated_hooks_are_judged_by_what_they_are() -> None:
    async def without_self(params, ctx, next_fn):
        return await next_fn(params, ctx)

    def logged(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    layer(wrap_model=staticmethod(without_self))()
    layer(wrap_model=classmethod(three))()
    layer(wrap_model=logged(three), wrap_stream=logged(parts))()
    problem(layer(wrap_model=staticmethod(three)), 'wrap_model')


def test_hooks_are_inherited_and_a_mixin_brings_its_own() -> None:
    class Parent(BaseMiddleware):
        wrap_model = three

    class Child(Parent):
        wrap_tool = three

    assert Child()._hooks == {'wrap_model', 'wrap_tool'}


def test_a_bad_hook_of_a_parent_is_told_by_the_child_too() -> None:
    class Child(layer(wrap_modle=three)):  # type: ignore[misc]
        """Inherits a mistake."""

    problem(Child, 'wrap_modle')


def test_a_plain_mixin_with_a_misspelled_hook_is_told() -> None:
    class Mixin:
        async def wrap_modle(self, params, ctx, next_fn):
            return await next_fn(params, ctx)

    class Layer(Mixin, BaseMiddleware):
        """Mixes a mistake in."""

    problem(Layer, 'wrap_modle')


@pytest.mark.parametrize('commit', ['last', None, True, 'Finish'])
def test_commit_is_first_or_finish(commit) -> None:
    problem(layer(commit=commit), 'commit', repr(commit))


def test_the_hooks_of_the_base_are_the_eight_of_the_contract() -> None:
    assert set(HOOKS) == {
        'tools', 'wrap_run', 'wrap_generate', 'transform_params', 'wrap_model', 'wrap_stream', 'wrap_tool', 'wrap_embed',
    }  # fmt: skip
    assert BaseMiddleware()._hooks == frozenset()


async def test_a_layer_with_no_hooks_changes_nothing() -> None:
    assert (await app('x').generate(prompt='x', use=[BaseMiddleware(), Limit()])).text == 'x'


async def test_the_hooks_of_the_base_pass_everything_on_when_a_child_calls_super() -> None:
    class Supers(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            return await super().wrap_run(params, ctx, next_fn)

        async def wrap_generate(self, params, ctx, next_fn):
            return await super().wrap_generate(params, ctx, next_fn)

        async def transform_params(self, params, ctx):
            return await super().transform_params(params, ctx)

        async def wrap_model(self, params, ctx, next_fn):
            return await super().wrap_model(params, ctx, next_fn)

        async def wrap_stream(self, params, ctx, next_fn):
            async for part in super().wrap_stream(params, ctx, next_fn):
                yield part

        def tools(self, ctx):
            return super().tools(ctx)

    for streaming in (False, True):
        ai = app('x')
        if streaming:
            response = await ai.generate_stream(prompt='x', use=[Supers()]).response
        else:
            response = await ai.generate(prompt='x', use=[Supers()])
        assert response.text == 'x'


def test_a_model_is_no_layer() -> None:
    problem(lambda: app('x', use=[ScriptedModel()]), 'ScriptedModel', 'not a layer')
