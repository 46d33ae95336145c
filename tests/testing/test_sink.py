"""The sink that keeps what it is told."""

from lamella.core.events import Event
from lamella.testing import CollectingSink


def test_it_keeps_events_in_order_and_finds_them_by_name() -> None:
    sink = CollectingSink()
    events = [Event(name, 0, 'run') for name in ('a', 'b', 'a')]
    for event in events:
        sink(event)
    assert sink.names == ['a', 'b', 'a']
    assert sink.named('a') == [events[0], events[2]]
    assert sink.named('c') == []
