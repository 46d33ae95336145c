"""A sink that keeps what it is told."""

from __future__ import annotations

from lamella.core.events import Event


class CollectingSink:
    """Give it to `Lamella(sinks=[…])`; `events` then has every event, `names` their names in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def named(self, name: str) -> list[Event]:
        """The events of one name."""
        return [event for event in self.events if event.name == name]
