"""Server-sent events of Gemini, and the errors that it writes between them without saying that they are events."""

from __future__ import annotations

from lamella.wire._gemini_json import Malformed, parsed
from lamella.wire.sse import Event, SSEDecoder


class GeminiSSEDecoder(SSEDecoder):
    """An error in the middle of a stream comes as naked JSON, over several lines and without `data:` (vercel/ai#5217).

    The standard skips such lines, and with them the reason why the answer ends; here they are an event. So is the array of
    chunks of a proxy that does not know `alt=sse`.
    """

    __slots__ = ()

    def finish(self) -> list[Event]:
        """Naked JSON ends with the body, and may do so without a line end."""
        if _is_naked(self._pending.decode('utf-8', 'replace')):
            self._pending += b'\n'
        return super().finish()

    def _block(self, block: str, events: list[Event]) -> None:
        if _is_naked(block):
            events.append(Event(data=block.strip()))
        else:
            super()._block(block, events)


def _is_naked(block: str) -> bool:
    if not block.lstrip().startswith(('{', '[')):
        return False
    try:
        parsed(block)
    except Malformed:
        return False
    return True
