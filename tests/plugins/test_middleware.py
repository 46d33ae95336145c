"""The `Middleware` plugin: the catalog by name, and every layer importable beside it."""

import pytest

import lamella.middleware as catalog
from lamella import Lamella
from lamella.middleware import BaseMiddleware
from lamella.plugins import middleware as plugin
from lamella.plugins.middleware import ConsoleLogger, Fallback, Middleware, ModelFallback, Retry, ToolApproval
from lamella.types import ConfigError, UnknownNameError


@pytest.mark.parametrize(
    ('name', 'layer'),
    [
        ('retry', Retry),
        ('fallback', Fallback),
        ('model_fallback', ModelFallback),
        ('tool_approval', ToolApproval),
        ('console_logger', ConsoleLogger),
    ],
)
def test_a_layer_is_found_under_its_name(name: str, layer: type) -> None:
    assert Lamella(plugins=[Middleware()]).registry.layer(name) is layer


def test_every_layer_of_the_catalog_is_registered_under_its_own_name() -> None:
    layers = Lamella(plugins=[Middleware()]).registry.layers
    exported = [getattr(catalog, name) for name in catalog.__all__]
    for layer in exported:
        if isinstance(layer, type) and issubclass(layer, BaseMiddleware) and layer is not BaseMiddleware:
            assert layers[layer.name] is layer


def test_the_contract_itself_is_no_layer() -> None:
    registered = Middleware().middleware()
    assert all(layer is not BaseMiddleware for layer in registered.values())
    assert 'stack' not in registered


def test_every_name_of_the_catalog_can_be_imported_from_the_plugin() -> None:
    assert set(plugin.__all__) == {'Middleware', *catalog.__all__}
    assert all(getattr(plugin, name) is getattr(catalog, name) for name in catalog.__all__)


def test_without_the_plugin_a_name_is_unknown_and_the_error_says_what_to_do() -> None:
    with pytest.raises(UnknownNameError, match=r'plugins=\[Middleware\(\)\]'):
        Lamella().registry.layer('retry')


def test_the_plugin_is_given_once() -> None:
    with pytest.raises(ConfigError, match="two plugins are named 'middleware'"):
        Lamella(plugins=[Middleware(), Middleware()])


def test_the_plugin_has_no_models() -> None:
    assert Middleware().model('retry') is None
