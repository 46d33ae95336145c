"""What the tests of the tool layers share: one tool call in a run of its own, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lamella.testing import FakeClock
from lamella.types import ToolRequest
from tests.middleware.kit import World, world


@dataclass
class Called:
    """One tool call. `output` is what the model was told; `error` whether as an error."""

    output: Any
    error: bool
    world: World

    def facts(self, event: str) -> list[dict[str, Any]]:
        return [dict(found.facts) for found in self.world.sink.named(event)]


async def call(
    use: Any, tool: str, *, tools: Sequence[Any] = (), clock: FakeClock | None = None, **given: Any
) -> Called:
    """A model asks for `tool` with this input and then ends. Raises what the run raises."""
    app = world({'x/a': [ToolRequest(tool, given, 'r-1'), 'done']}, clock=clock)
    layers = list(use) if isinstance(use, (list, tuple)) else [use]
    response = await app.ai.generate(prompt='go', use=layers, tools=list(tools))
    answer = response.turns[0].tool_responses[0].tool_response
    return Called(answer.output, answer.is_error, app)


async def said(use: Any, tool: str, **given: Any) -> Any:
    """The output of a call that works."""
    called = await call(use, tool, **given)
    assert not called.error, called.output
    return called.output


async def refused(use: Any, tool: str, **given: Any) -> str:
    """The error of a call that does not work."""
    called = await call(use, tool, **given)
    assert called.error, called.output
    return str(called.output)
