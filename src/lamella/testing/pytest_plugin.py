"""Fixtures for users' tests: a simulated provider over real HTTP."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def lamella_simulator_options() -> dict[str, Any]:
    """Options of `lamella.simulator.Simulator` for the `lamella_simulator` fixture; override it to change them."""
    return {}


@pytest.fixture
def lamella_simulator(lamella_simulator_options: dict[str, Any]) -> Iterator[Any]:
    """A running `lamella.simulator.SimulatorThread`, for tests with and without async: `lamella_simulator.base_url`.

    Needs aiohttp, which is imported only when a test asks for this: `pip install 'lamella[sim]'`.
    """
    try:
        simulator = importlib.import_module('lamella.simulator')
    except ModuleNotFoundError as error:
        if error.name != 'aiohttp':
            raise
        raise ModuleNotFoundError(
            "the fixture lamella_simulator needs aiohttp: pip install 'lamella[sim]'", name=error.name
        ) from error
    with simulator.Simulator(**lamella_simulator_options).in_thread() as running:
        yield running
