"""What the catalog's tests share: an app whose models follow scripts, and what was seen of a run."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from lamella import Lamella
from lamella.core.plugin import Plugin
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import Finished, LamellaError, ModelRequest, Restarted, StreamPart, TextDelta
from tests.engine.kit import both, folds_to, no_leaks, same_answer

Answers = Sequence[Any]


class Vendor(Plugin):
    """A provider with scripted models."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.models: dict[str, ScriptedModel] = {}

    def model(self, name: str) -> ScriptedModel | None:
        return self.models.get(name)

    def known_models(self) -> tuple[str, ...]:
        return tuple(self.models)


class HeldClock(FakeClock):
    """A clock that moves only when the test moves it, and says when somebody waits."""

    def __init__(self) -> None:
        super().__init__(auto=False)
        self._somebody = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self._somebody.set()
        await super().sleep(seconds)

    async def somebody_sleeps(self) -> None:
        await self._somebody.wait()
        self._somebody.clear()


@dataclass
class World:
    """An app without network and without waiting."""

    ai: Lamella
    models: dict[str, ScriptedModel]
    sink: CollectingSink
    clock: FakeClock

    @property
    def asked(self) -> str:
        """The last letters of the models in the order they were called: `aab`."""
        return ''.join(event.facts['model'][-1] for event in self.sink.named('model.start'))

    @property
    def told(self) -> list[str]:
        """The events of layers, in order."""
        return [name for name in self.sink.names if name.partition('.')[0] in ('retry', 'fallback', 'tool_approval')]

    async def answer(self, *use: Any, **options: Any) -> Any:
        """One call; its response or its error."""
        try:
            return await self.ai.generate(prompt='hi', use=list(use), **options)
        except LamellaError as error:
            return error

    async def read(self, *use: Any, **options: Any) -> tuple[list[StreamPart], LamellaError | None]:
        """One streamed call: its parts, and its error."""
        parts: list[StreamPart] = []
        try:
            async for part in self.ai.generate_stream(prompt='hi', use=list(use), **options):
                parts.append(part)
        except LamellaError as error:
            return parts, error
        return parts, None


def world(
    scripts: Mapping[str, Answers], *, clock: FakeClock | None = None, repeat: bool = False, **options: Any
) -> World:
    """Each model by its name (`x/a`) and script; the first one is the app's default."""
    vendors: dict[str, Vendor] = {}
    models: dict[str, ScriptedModel] = {}
    for full, script in scripts.items():
        provider, _, name = full.partition('/')
        models[full] = ScriptedModel(list(script), name=full, repeat=repeat)
        vendors.setdefault(provider, Vendor(provider)).models[name] = models[full]
    sink, clock = CollectingSink(), clock or FakeClock()
    settings = {'model': next(iter(scripts)), 'random': Random(7), **options}
    ai = Lamella(plugins=list(vendors.values()), sinks=[sink], clock=clock, **settings)
    return World(ai, models, sink, clock)


def down(status: Any = 'UNAVAILABLE', message: str = 'down', **facts: Any) -> Callable[[ModelRequest], LamellaError]:
    """A scripted failure before the first part; a new error at each call."""
    return lambda request: LamellaError(status, message, **facts)


def cut(
    *parts: Any, status: Any = 'UNAVAILABLE', message: str = 'cut', **facts: Any
) -> Callable[[ModelRequest], list[Any]]:
    """A scripted stream that breaks off after these parts; texts stand for pieces of text."""
    said = [TextDelta(part) if isinstance(part, str) else part for part in parts]
    return lambda request: [*said, LamellaError(status, message, **facts)]


def shown(parts: Sequence[StreamPart]) -> str:
    """What a reader has on the screen: text, cleared at every `Restarted`."""
    screen = ''
    for part in parts:
        if type(part) is TextDelta:
            screen += part.text
        elif type(part) is Restarted:
            screen = ''
    return screen


def kinds(parts: Sequence[StreamPart]) -> list[str]:
    return [type(part).__name__ for part in parts]


def end(parts: Sequence[StreamPart]) -> Finished:
    last = parts[-1]
    assert isinstance(last, Finished)
    return last


__all__ = [
    'HeldClock',
    'World',
    'both',
    'cut',
    'down',
    'end',
    'folds_to',
    'kinds',
    'no_leaks',
    'same_answer',
    'shown',
    'world',
]
