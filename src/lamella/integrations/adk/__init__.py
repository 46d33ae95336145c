"""Lamella inside Google's Agent Development Kit: layers around the models and the tools of ADK agents.

`LamellaLlm(model, use=[…])` is a model for any agent, `LamellaPlugin(use=[…])` puts layers around tools, `FallbackPlugin` marks
what failed, and may ask another model. `AdkModel` is the other direction: a model of the ADK for Lamella's own calls.
"""

from __future__ import annotations

try:
    import google.adk  # noqa: F401 - asked for here, so that its absence is one clear error
except ImportError as missing:
    raise ImportError("lamella.integrations.adk needs google-adk: pip install 'lamella[adk]'") from missing

from lamella.integrations.adk.lamella_llm import LamellaLlm
from lamella.integrations.adk.model import AdkModel
from lamella.integrations.adk.plugins import FallbackPlugin, LamellaPlugin

__all__ = ['AdkModel', 'FallbackPlugin', 'LamellaLlm', 'LamellaPlugin']
