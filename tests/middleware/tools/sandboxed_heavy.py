"""Tools for the sandbox's tests that need modules which take long to import."""

import asyncio
import socket
import subprocess

from tests.middleware.tools.sandboxed import outcomes


async def add_later(a: int, b: int) -> int:
    """Add, asynchronously."""
    await asyncio.sleep(0)
    return a + b


def shell(command: str) -> str:
    """Run a command of the system."""
    done = subprocess.run(['/bin/sh', '-c', command], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def connects(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=2):
        return 'connected'


def connects_to_path(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        return 'connected'


def opens_socket(family: int, kind: int) -> str:
    with socket.socket(family, kind):
        return 'opened'


def tries(name: str, inputs: list[dict[str, object]]) -> list[str]:
    """Call one of these functions with each of the inputs."""
    return outcomes(globals()[name], inputs)
