"""Floor 5, public doubles: a scripted model, a clock that tests turn, a sink that collects events."""

from lamella.testing.clock import FakeClock
from lamella.testing.model import ScriptedModel
from lamella.testing.sink import CollectingSink

__all__ = ['CollectingSink', 'FakeClock', 'ScriptedModel']
