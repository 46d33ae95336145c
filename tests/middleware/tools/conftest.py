"""The sandboxes that this machine has, as fixtures: a test runs in each of them."""

from collections.abc import Iterator

import pytest

from tests.middleware.tools.boxes import KINDS, PRIVATE, WALLED, Box, built


@pytest.fixture(params=WALLED)
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """All ways to put up all walls."""
    yield from built(request.param)


@pytest.fixture(params=PRIVATE)
def private(request: pytest.FixtureRequest) -> Iterator[Box]:
    """The ways that give it a root of its own."""
    yield from built(request.param)


@pytest.fixture(params=KINDS)
def any_box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """All walls or none."""
    yield from built(request.param)


@pytest.fixture(params=[kind for kind in KINDS if kind != 'bubblewrap'])
def most(request: pytest.FixtureRequest) -> Iterator[Box]:
    """The same without bubblewrap, for what the tool's own process sees to in any case."""
    yield from built(request.param)


@pytest.fixture
def namespaces() -> Iterator[Box]:
    """All walls, the way that needs nothing installed."""
    yield from built('namespaces')


@pytest.fixture
def limits() -> Iterator[Box]:
    """Limits alone, which every machine has."""
    yield from built('limits')
