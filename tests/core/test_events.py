"""Events."""

import msgspec

from lamella.core.events import Event


def test_an_event_is_a_name_a_time_a_run_and_facts() -> None:
    event = Event('retry.wait', 1.5, 'run_1', {'wait_s': 2})
    assert msgspec.json.decode(msgspec.json.encode(event)) == {
        'name': 'retry.wait', 'at_s': 1.5, 'run_id': 'run_1', 'facts': {'wait_s': 2},
    }  # fmt: skip
