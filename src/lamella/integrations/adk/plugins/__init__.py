"""Plugins for `App(plugins=[…])` and `Runner(plugins=[…])`, named as those of the ADK are."""

from __future__ import annotations

from lamella.integrations.adk.plugins.fallback_plugin import FallbackPlugin
from lamella.integrations.adk.plugins.lamella_plugin import LamellaPlugin

__all__ = ['FallbackPlugin', 'LamellaPlugin']
