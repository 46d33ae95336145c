"""An ADK app that falls back to another Gemini model; `agent.py` is where the ADK looks for it."""

from . import agent

__all__ = ['agent']
