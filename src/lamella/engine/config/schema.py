"""The JSON Schema of `lamella.toml`, for editors: made from the models that check the file."""

from __future__ import annotations

from typing import Any

from lamella.core.middleware import BaseMiddleware
from lamella.engine.config.discovery import LAYER_GROUP, layer_class, registered
from lamella.engine.config.file import File
from lamella.plugins.middleware import Middleware
from lamella.types import JSON, LamellaError

DIALECT = 'https://json-schema.org/draft/2020-12/schema'


def file_schema() -> JSON:
    """A schema in which each layer of a chain has its own settings: those of the catalog and of installed packages."""
    schema = File.model_json_schema()
    layers = dict(sorted(_layers().items()))
    entries = [_entry(name, layer) for name, layer in layers.items()]
    definitions = schema.setdefault('$defs', {})
    definitions['Layer'] = {
        'anyOf': [
            {'enum': list(layers), 'description': 'A layer with its default settings.'},
            {'type': 'string', 'pattern': '^[^:]+:[^:]+$', 'description': 'A class of your own: module:Class.'},
            *entries,
            _foreign(list(layers)),
        ]
    }
    fields = schema['properties']
    fields['chains']['additionalProperties'] = {'type': 'array', 'items': {'$ref': '#/$defs/Layer'}}
    fields['layers']['properties'] = {name: _settings(layer) for name, layer in layers.items()}
    return {'$schema': DIALECT, 'title': 'lamella.toml', **schema}


def _layers() -> dict[str, type[BaseMiddleware[Any]]]:
    found = dict(Middleware().middleware())
    for name in registered(LAYER_GROUP):
        try:
            found[name] = layer_class(name)
        except LamellaError:
            continue  # a broken package is not this schema's business
    return found


def _settings(layer: type[BaseMiddleware[Any]]) -> JSON:
    """The settings as a file can give them. What only Python can say (functions, objects) may be anything here."""
    config = layer._config_class
    if config is None:
        return {'type': 'object', 'additionalProperties': False}
    try:
        schema = config.model_json_schema(mode='validation')
    except Exception:  # a field without a JSON form, such as a function
        schema = {
            'type': 'object',
            'properties': {name: {} for name in config.model_fields},
            'additionalProperties': False,
        }
    inlined: JSON = _inlined(schema, schema.pop('$defs', {}))
    return inlined


def _entry(name: str, layer: type[BaseMiddleware[Any]]) -> JSON:
    settings = _settings(layer)
    what = (layer.__doc__ or '').strip().partition('\n')[0]
    return {
        **settings,
        'title': layer.__name__,
        'description': what,
        'properties': {'use': {'const': name}, **settings.get('properties', {})},
        'required': ['use', *settings.get('required', [])],
    }


def _foreign(known: list[str]) -> JSON:
    return {
        'type': 'object',
        'properties': {'use': {'type': 'string', 'not': {'enum': known}}},
        'required': ['use'],
        'description': 'A layer of another package, or a class of your own (module:Class), with its settings.',
    }


def _inlined(schema: Any, definitions: JSON) -> Any:
    """The schema with what it refers to in place, since it becomes a part of another one."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get('$ref')
    if isinstance(reference, str) and (name := reference.rpartition('/')[2]) in definitions:
        return _inlined(
            {**definitions[name], **{key: value for key, value in schema.items() if key != '$ref'}}, definitions
        )
    return {key: _inlined(value, definitions) for key, value in schema.items()}
