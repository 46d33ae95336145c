"""`spine.toml`, Spine's file, in the words of `lamella.toml`: what becomes what is told, and nothing is left out in silence.

Its tables are `[spine]` (`default_model`, `system`), `[spine.middleware] chain`, `[spine.plugins.X]`, `[spine.guards]` and
`[spine.backends]`, as Spine's own reference of the file has them (project spinekit).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.core.middleware import snake_case
from lamella.engine.config.build import slashed
from lamella.engine.config.places import Path, Place, Places
from lamella.engine.config.problems import Problems
from lamella.types import did_you_mean

_TABLES: dict[Path, tuple[str, ...]] = {
    (): ('default_model', 'model', 'system', 'guards', 'middleware', 'backends', 'plugins'),
    ('middleware',): ('chain',),
    ('backends',): ('checkpoint', 'memory'),
    ('guards',): ('max_steps', 'max_turns', 'max_cost_usd', 'max_tokens', 'timeout_s', 'max_depth'),
}
_GUARDS = {
    'max_steps': 'max_turns',
    'max_turns': 'max_turns',
    'max_cost_usd': 'max_cost_usd',
    'max_tokens': 'max_tokens',
    'timeout_s': 'timeout_s',
}
_LAYERS = {'model_fallback': 'fallback', 'otel': 'otel_middleware'}
_PROVIDERS = {'google': 'googleai', 'gemini': 'googleai', 'vertex': 'vertexai'}
_STORES = {'memory': 'memory://', 'redis': 'redis://127.0.0.1:6379/0', 'postgres': 'postgresql://127.0.0.1/lamella'}


def is_spine(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get('spine'), Mapping)


class Moved:
    """Places of the translated document: where each thing stood before."""

    def __init__(self, places: Places, moves: Mapping[Path, Path]) -> None:
        self._places, self._moves = places, moves

    def of(self, path: Path) -> Place:
        for length in range(len(path), 0, -1):
            if path[:length] in self._moves:
                return self._places.of((*self._moves[path[:length]], *path[length:]))
        return self._places.of(('spine',))


class Translation:
    """One `spine.toml` as a `lamella.toml`: `document`, the `moves` of its paths, and `notes` on what was mapped."""

    def __init__(self, document: Mapping[str, Any], problems: Problems) -> None:
        self._spine: Mapping[str, Any] = document['spine']
        self._problems = problems
        self.document: dict[str, Any] = {}
        self.moves: dict[Path, Path] = {}
        self.notes: list[str] = []
        for name in document:
            if name != 'spine':
                problems.add((name,), 'stands beside [spine]: a spine.toml has everything inside of it')
        self._unknown((), self._spine)
        self._model()
        self._guards()
        self._store()
        self._chain()

    def _unknown(self, path: Path, table: Mapping[str, Any]) -> None:
        known = _TABLES[path]
        for key in table:
            if key not in known:
                self._problems.add(('spine', *path, key), f'unknown setting{did_you_mean(key, known)}')

    def _table(self, name: str) -> Mapping[str, Any]:
        found = self._spine.get(name, {})
        if isinstance(found, Mapping):
            return found
        self._problems.add(('spine', name), f'is a {type(found).__name__}: give a table, [spine.{name}]')
        return {}

    def _put(self, path: Path, value: Any, was: Path) -> None:
        table: dict[Any, Any] = self.document
        for key in path[:-1]:
            table = table.setdefault(key, {})
        table[path[-1]] = value
        self.moves[path] = ('spine', *was)

    def _model(self) -> None:
        key = 'default_model' if 'default_model' in self._spine else 'model'
        if key not in self._spine:
            return
        model = _model_name(self._spine[key])
        self._put(('model',), model, (key,))
        self._note(f'{key} = {self._spine[key]!r}', f'model = {model!r}')
        self._provider(model, (key,))

    def _provider(self, model: Any, was: Path) -> None:
        """Spine finds a provider by the scheme of a model's name; a `lamella.toml` names its plugins."""
        if isinstance(model, str) and '/' in model:
            self._put(('plugins', model.partition('/')[0]), {}, was)

    def _guards(self) -> None:
        guards = self._table('guards')
        self._unknown(('guards',), guards)
        for key, value in guards.items():
            if key == 'max_depth':
                self.notes.append('[spine.guards] max_depth: left out, a run of Lamella does not nest')
            elif key in _GUARDS:
                self._put(('guards', _GUARDS[key]), value, ('guards', key))
                self._note(f'[spine.guards] {key}', f'[guards] {_GUARDS[key]}')

    def _store(self) -> None:
        backends = self._table('backends')
        self._unknown(('backends',), backends)
        if 'memory' in backends:
            self.notes.append(
                f'[spine.backends] memory = {backends["memory"]!r}: left out, the memory is given to the layer MemoryRecall'
            )
        kind = backends.get('checkpoint')
        if kind is None:
            return
        settings = self._plugin(str(kind))
        url = settings.get('url') or settings.get('dsn') or _STORES.get(str(kind))
        if kind == 'sqlite':
            url = f'sqlite:///{settings.get("path", "spine.db")}'
        if url is None:
            near = did_you_mean(str(kind), ['sqlite', *_STORES])
            self._problems.add(('spine', 'backends', 'checkpoint'), f'unknown backend {kind!r}{near}')
            return
        self._put(('store',), url, ('backends', 'checkpoint'))
        self._note(f'[spine.backends] checkpoint = {kind!r}', 'store')

    def _chain(self) -> None:
        middleware = self._table('middleware')
        self._unknown(('middleware',), middleware)
        names = middleware.get('chain', [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._problems.add(
                ('spine', 'middleware', 'chain'), 'give a list of names', 'chain = ["Retry", "CostTracking"]'
            )
            return
        entries = [self._layer(name, index) for index, name in enumerate(names)]
        if system := self._spine.get('system'):
            self.moves['chains', 'default', len(entries)] = ('spine', 'system')
            entries.append({'use': 'default_instructions', 'text': system})
            self._note('system', 'the layer default_instructions')
        if entries:
            self._put(('chains', 'default'), entries, ('middleware', 'chain'))

    def _layer(self, name: str, index: int) -> dict[str, Any]:
        ours = _LAYERS.get(snake_case(name), snake_case(name)) if ':' not in name else name
        place: Path = ('chains', 'default', index)
        self.moves[place] = ('spine', 'middleware', 'chain', index)
        settings = dict(self._plugin(name))
        mapped = _retry(settings) if ours == 'retry' else _fallback(settings) if ours == 'fallback' else settings
        was = ('plugins', name if name in self._table('plugins') else snake_case(name))
        for model in mapped.get('models', ()) if ours == 'fallback' else ():
            self._provider(model, (*was, 'providers'))
        for key in mapped:
            self.moves[(*place, key)] = ('spine', *was, _WAS.get(key, key) if key not in settings else key)
        changed = ', '.join(key for key in mapped if key not in settings)
        self._note(f'chain entry {name!r}', f'layer {ours!r}' + (f' with {changed}' if changed else ''))
        return {'use': ours, **mapped}

    def _plugin(self, name: str) -> Mapping[str, Any]:
        plugins = self._table('plugins')
        found = plugins.get(name, plugins.get(snake_case(name), {}))
        return found if isinstance(found, Mapping) else {}

    def _note(self, theirs: str, ours: str) -> None:
        self.notes.append(f'{theirs} → {ours}')


_WAS = {
    'max_retries': 'max_attempts',
    'initial_delay_ms': 'base',
    'backoff_factor': 'factor',
    'no_jitter': 'jitter',
    'models': 'providers',
}


def _retry(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Spine counts attempts and seconds, and says jitter where we say no_jitter."""
    mapped = {key: value for key, value in settings.items() if key not in _WAS.values()}
    if isinstance(attempts := settings.get('max_attempts'), int):
        mapped['max_retries'] = attempts - 1
    if isinstance(base := settings.get('base'), (int, float)):
        mapped['initial_delay_ms'] = base * 1000
    if 'factor' in settings:
        mapped['backoff_factor'] = settings['factor']
    if isinstance(jitter := settings.get('jitter'), bool):
        mapped['no_jitter'] = not jitter
    elif isinstance(jitter, (int, float)):
        mapped['no_jitter'] = jitter == 0
    return mapped


def _fallback(settings: Mapping[str, Any]) -> dict[str, Any]:
    mapped = {key: value for key, value in settings.items() if key != 'providers'}
    if 'providers' in settings:
        mapped['models'] = [_model_name(item) for item in settings['providers']]
    return mapped


def _model_name(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    provider, slash, model = slashed(name).partition('/')
    return f'{_PROVIDERS.get(provider, provider)}{slash}{model}'
