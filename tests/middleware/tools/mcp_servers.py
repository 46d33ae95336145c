"""Real MCP servers for the tests of the layer: a program, and the same over HTTP."""

import asyncio
import base64
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from mcp.types import ImageContent

PROGRAM = str(Path(__file__).resolve())
COMMAND = (sys.executable, PROGRAM)


def server(log: Path | None = None) -> MCPServer:
    """A server whose tools work, fail, hang, die and change."""
    made = MCPServer('demo', log_level='CRITICAL')

    @made.tool()
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @made.tool()
    def environment(name: str) -> str:
        """A variable of the server's environment."""
        return os.environ.get(name, 'not set')

    @made.tool()
    async def hang() -> str:
        """Never answers."""
        await asyncio.Event().wait()
        return ''

    @made.tool()
    def die() -> str:
        """Ends the server in the middle."""
        if log is not None:
            log.write_text('died')
        os._exit(3)

    @made.tool()
    def fail() -> str:
        """Fails."""
        raise ValueError('no luck')

    @made.tool()
    def draw() -> ImageContent:
        """Draws."""
        return ImageContent(type='image', data=base64.b64encode(b'\x89PNG').decode(), mime_type='image/png')

    @made.tool()
    def learn() -> str:
        """Makes a new tool, and takes one away."""

        @made.tool()
        def multiply(a: int, b: int) -> int:
            """Multiplies."""
            return a * b

        made.remove_tool('fail')
        return 'learned'

    return made


@contextmanager
def over_http() -> Iterator[str]:
    """The same server behind a URL, in a thread."""
    listener = socket.create_server(('127.0.0.1', 0))
    app = server().streamable_http_app()
    running = uvicorn.Server(uvicorn.Config(app, log_level='critical', ws='none', lifespan='on'))
    thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not running.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        yield f'http://127.0.0.1:{listener.getsockname()[1]}/mcp'
    finally:
        running.should_exit = running.force_exit = True
        thread.join(10)
        listener.close()


if __name__ == '__main__':
    if sys.argv[1:] == ['silent']:
        time.sleep(3600)
    if sys.argv[1:] == ['noise']:
        print('this is no protocol', flush=True)
        time.sleep(3600)
    server(Path(sys.argv[1]) if len(sys.argv) > 1 else None).run()
