"""A server that is written out byte by byte, for what no well-behaved server does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class Connection:
    """One connection of a client. `number` counts from 0; `asked` is how many requests it has brought."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.asked = 0
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[str, dict[str, str], bytes] | None:
        """The next request's first line, headers and body; `None` when the client has hung up."""
        try:
            head = (await self.reader.readuntil(b'\r\n\r\n')).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.strip().split('\r\n')
        headers = {name.lower(): value for name, _, value in (line.partition(': ') for line in lines)}
        body = await self.reader.readexactly(int(headers.get('content-length', 0)))
        self.asked += 1
        return first, headers, body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = b'hello', status: str = '200 OK', *headers: str) -> None:
        lines = [f'HTTP/1.1 {status}', f'content-length: {len(body)}', *headers]
        await self.send('\r\n'.join(lines).encode() + b'\r\n\r\n' + body)

    async def hung_up(self) -> None:
        """Returns when the client has closed the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            return


Handler = Callable[[Connection], Awaitable[object]]


class RawServer:
    def __init__(self, handler: Handler) -> None:
        self.connections: list[Connection] = []
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def requests(self) -> int:
        return sum(connection.asked for connection in self.connections)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(len(self.connections), reader, writer)
        self.connections.append(connection)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            await self._handler(connection)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def raw_server(handler: Handler) -> AsyncIterator[tuple[RawServer, str]]:
    """The server and its address, without a slash at the end. A handler is called for each connection."""
    raw = RawServer(handler)
    server = await asyncio.start_server(raw.accept, '127.0.0.1', 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield raw, f'http://{host}:{port}'
    finally:
        server.close()
        await raw.stop()


async def keep_answering(connection: Connection) -> None:
    """Says hello to every request."""
    while await connection.request():
        await connection.answer()
