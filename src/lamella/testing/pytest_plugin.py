"""Fixtures for users' tests: a simulated provider over real HTTP, and a watch over all streams."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

MARKER = 'breaks_stream_rules: a layer or model of this test breaks the rules of stream parts on purpose'


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line('markers', MARKER)


@pytest.fixture
def lamella_watched_models() -> tuple[type[Any], ...]:
    """Your own classes of models, for the `lamella_stream_watch` fixture to hold to the rules too; override it."""
    return ()


@pytest.fixture
def lamella_stream_watch(
    request: pytest.FixtureRequest, lamella_watched_models: tuple[type[Any], ...]
) -> Iterator[None]:
    """Fails the test when a layer gives a stream or an answer that breaks the rules of stream parts, in whatever stack.

    For all tests of a directory: an autouse fixture in its conftest.py that asks for this one. A test that breaks the rules
    on purpose is marked `breaks_stream_rules`.
    """
    testing = importlib.import_module('lamella.testing')
    if request.node.get_closest_marker('breaks_stream_rules') is not None:
        yield
        return
    with testing.watched_streams(lamella_watched_models) as found:
        yield
    if found:
        pytest.fail('\n'.join(['rules of stream parts were broken:', *found[:5]]), pytrace=False)


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
