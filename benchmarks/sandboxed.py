"""A tool for the sandbox's benchmark, in a module that takes no time to import."""


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
