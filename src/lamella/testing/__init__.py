"""Floor 5, public doubles: scripted models, a clock that tests turn, a sink that collects events, a checker of streams."""

from lamella.testing.clock import FakeClock
from lamella.testing.embedding import ScriptedEmbeddingModel
from lamella.testing.model import ScriptedModel
from lamella.testing.sink import CollectingSink
from lamella.testing.stream_checker import StreamChecker, check_parts, check_response, checked
from lamella.testing.stream_watch import watched_streams
from lamella.testing.vectors import word_vector

__all__ = [
    'CollectingSink',
    'FakeClock',
    'ScriptedEmbeddingModel',
    'ScriptedModel',
    'StreamChecker',
    'check_parts',
    'check_response',
    'checked',
    'watched_streams',
    'word_vector',
]
