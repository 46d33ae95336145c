"""An app whose models follow scripts, and what was seen of a run: which models, which waits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from lamella import Lamella, LamellaError
from lamella.core.plugin import Plugin
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import ModelRequest, Status


class Vendor(Plugin):
    """A provider under the name that the samples use."""

    name = 'googleai'

    def __init__(self, scripts: Mapping[str, Sequence[Any]]) -> None:
        self.models = {
            name: ScriptedModel(script, name=f'googleai/{name}', repeat=len(script) == 1)
            for name, script in scripts.items()
        }

    def model(self, name: str) -> ScriptedModel | None:
        return self.models.get(name)

    def known_models(self) -> tuple[str, ...]:
        return tuple(self.models)


def fails(status: Status, message: str = 'scripted failure', **facts: Any) -> Callable[[ModelRequest], LamellaError]:
    """A scripted answer: a new error at each call."""
    return lambda request: LamellaError(status, message, **facts)


@dataclass
class World:
    """An app without network and without waiting."""

    ai: Lamella
    vendor: Vendor
    sink: CollectingSink
    clock: FakeClock

    @property
    def asked(self) -> list[str]:
        """The models in the order they were called, without the provider's name."""
        return [event.facts['model'].removeprefix('googleai/') for event in self.sink.named('model.start')]


def world(scripts: Mapping[str, Sequence[Any]], **options: Any) -> World:
    """Each model by its name and script; a script of one answer is repeated. The first model is the app's default."""
    vendor, sink, clock = Vendor(scripts), CollectingSink(), FakeClock()
    settings = {'model': f'googleai/{next(iter(scripts))}', 'random': Random(7), **options}
    plugins = [vendor, *settings.pop('plugins', ())]
    return World(Lamella(plugins=plugins, sinks=[sink], clock=clock, **settings), vendor, sink, clock)
