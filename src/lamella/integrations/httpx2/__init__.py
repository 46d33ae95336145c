"""Layers inside the vendors' own clients: an httpx2 transport that runs a stack around every model call.

    client = openai.AsyncOpenAI(http_client=httpx2.AsyncClient(transport=LamellaTransport(use=[Retry(), Fallback(…)])))

The client's request is decoded, goes through the layers, is sent as the client meant it (its address, its headers, and its
body where no layer changed it), and the answer goes back to the client as it came, or encoded anew where a layer changed it.
"""

from __future__ import annotations

try:
    import httpx2  # noqa: F401 - asked for here, so that its absence is one clear error
except ImportError as missing:
    raise ImportError("lamella.integrations.httpx2 needs httpx2: pip install 'lamella[httpx2]'") from missing

from lamella.integrations.httpx2.transport import LamellaTransport

__all__ = ['LamellaTransport']
