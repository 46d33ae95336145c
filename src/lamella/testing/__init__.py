"""Floor 5, public doubles: a scripted model, a clock that tests turn, a sink that collects events, a checker of streams."""

from lamella.testing.clock import FakeClock
from lamella.testing.model import ScriptedModel
from lamella.testing.sink import CollectingSink
from lamella.testing.stream_checker import StreamChecker, check_parts, check_response, checked

__all__ = [
    'CollectingSink',
    'FakeClock',
    'ScriptedModel',
    'StreamChecker',
    'check_parts',
    'check_response',
    'checked',
]
