"""What holds for every layer of the catalog."""

import inspect
from typing import Any, Unpack, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from lamella import middleware as catalog
from lamella.middleware import BaseMiddleware
from lamella.types import ConfigError
from tests.middleware.samples import LAYERS as LAYERS_BY_NAME
from tests.middleware.samples import sample

LAYERS = sorted(
    {
        layer
        for name in catalog.__all__
        if isinstance(layer := getattr(catalog, name), type)
        and issubclass(layer, BaseMiddleware)
        and layer is not BaseMiddleware
    },
    key=lambda layer: layer.__name__,
)
each = pytest.mark.parametrize('layer', LAYERS, ids=lambda layer: layer.__name__)


def options_of(layer: type[BaseMiddleware[Any]]) -> type | None:
    """The typed dictionary of a layer's keywords."""
    hint = get_type_hints(layer.__init__, include_extras=True).get('options')
    return get_args(hint)[0] if get_origin(hint) is Unpack else None


def test_the_catalog_is_not_empty() -> None:
    assert {'Retry', 'Fallback', 'ToolApproval', 'ConsoleLogger'} <= {layer.__name__ for layer in LAYERS}


@each
def test_the_keywords_that_editors_complete_are_the_settings(layer: type[BaseMiddleware[Any]]) -> None:
    config = layer._config_class
    if config is None:
        return
    options = options_of(layer)
    assert options is not None, f'{layer.__name__}.__init__ takes **options: Unpack[…]'
    assert set(options.__annotations__) == {field.alias or name for name, field in config.model_fields.items()}
    assert not options.__required_keys__


@each
def test_every_setting_says_what_it_means(layer: type[BaseMiddleware[Any]]) -> None:
    fields = layer._config_class.model_fields if layer._config_class is not None else {}
    assert [name for name, field in fields.items() if not field.description] == []


@each
def test_settings_never_change_and_know_no_other_keys(layer: type[BaseMiddleware[Any]]) -> None:
    config: type[BaseModel] | None = layer._config_class
    if config is None:
        return
    assert (config.model_config.get('frozen'), config.model_config.get('extra')) == (True, 'forbid')


@each
def test_a_layer_says_what_it_does(layer: type[BaseMiddleware[Any]]) -> None:
    assert inspect.getdoc(layer) not in (None, inspect.getdoc(BaseMiddleware))


@each
def test_an_unknown_setting_is_refused(layer: type[BaseMiddleware[Any]]) -> None:
    with pytest.raises(ConfigError, match="'no_such_setting'"):
        layer(no_such_setting=1)


@pytest.mark.parametrize('name', sorted(LAYERS_BY_NAME))
def test_there_is_a_sample_of_every_layer(name: str) -> None:
    """tests/middleware/samples.py has a line for each that needs settings: what holds for every layer is tested with it."""
    assert isinstance(sample(name), LAYERS_BY_NAME[name])
