"""Traces kept on this machine: written as runs happen, read by the command line and by whoever looks later."""

from lamella.engine.traces.reader import RunRow, SpanRow, TraceReader
from lamella.engine.traces.store import TraceStore

__all__ = ['RunRow', 'SpanRow', 'TraceReader', 'TraceStore']
