"""What happened, as dotted names and facts, for whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lamella.types import Data


class Event(Data, frozen=True):
    """One happening: `name` such as `retry.wait`, `at_s` on the run's clock, the run's id, and the facts.

    Units are in the facts' names (`wait_s`, `max_tokens`). `run_id` exists only while somebody listens.
    """

    name: str
    at_s: float
    run_id: str
    facts: Mapping[str, Any] = {}


Sink = Callable[[Event], None]
