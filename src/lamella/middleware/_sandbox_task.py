"""Inside of the walls: one function is called, and its result, or what went wrong, goes out as JSON.

Standard library only; what most calls do without is loaded when it is needed, since that is time of every call.
"""

from __future__ import annotations

import marshal
import os
import sys
from _json import encode_basestring_ascii

from lamella.middleware._sandbox_words import Plan, Quietly

_LONGEST_MESSAGE = 4000


def by_name(module: str, name: str, arguments: tuple[object, ...], keywords: dict[str, object]) -> bytes:
    """A task of plain values, in the short form. Raises ValueError for values of any other type."""
    return b'm' + marshal.dumps((module, name, arguments, keywords))  # type: ignore[arg-type]  # checked when it runs


def pickled(task: bytes) -> bytes:
    """A task in the long form: function, arguments and keywords, pickled by the app."""
    return b'p' + task


LOOK = b'-'  # no task: only a look whether the walls stand


def carry_out(plan: Plan, task: bytes, answer: int) -> int:
    """Call the function that `task` names and write the answer to the handle `answer`. The code to end with."""
    try:
        said = _called(plan, task)
    except BaseException as error:
        said = _failure(error)
    with Quietly(BaseException):  # what is printed is not worth an answer
        sys.stdout.flush()
        sys.stderr.flush()
    view = memoryview(said)
    try:
        while view:
            view = view[os.write(answer, view) :]
    except OSError:
        return 1
    return 0


def _called(plan: Plan, task: bytes) -> bytes:
    if task == LOOK:
        return _json({'ok': None})
    # The stand-ins that let this module be imported without the whole package make way for the package itself.
    kept = {name: module for name, module in sys.modules.items() if name.partition('.')[0] == 'lamella'}
    for name in kept:
        del sys.modules[name]
    sys.path[:] = plan.path
    sys.meta_path.append(_Shown(plan.modules))  # type: ignore[arg-type]  # a spec, which only importlib can name
    sys.prefix, sys.exec_prefix = plan.prefixes
    try:
        _prepare_main(plan.main)
        function, arguments, keywords = _read(task)
    except Exception as error:
        return _failure(error, 'import')
    result = function(*arguments, **keywords)
    if hasattr(result, '__await__'):
        result = _awaited(result)
    return _answer(result)


class _Shown:
    """Finds packages by their place, where the directory around them cannot be listed."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = places

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        place = self._places.get(name)
        if place is None:
            return None
        from importlib.util import spec_from_file_location  # noqa: PLC0415 - see above

        if place.endswith('.py'):
            return spec_from_file_location(name, place)
        return spec_from_file_location(name, f'{place}/__init__.py', submodule_search_locations=[place])


def _read(task: bytes):  # type: ignore[no-untyped-def]
    if task[:1] == b'p':
        import pickle  # noqa: PLC0415 - see above

        return pickle.loads(task[1:])
    module, name, arguments, keywords = marshal.loads(task[1:])
    function = __import__(module, fromlist=['*'])
    for part in name.split('.'):
        function = getattr(function, part)
    return function, arguments, keywords


def _prepare_main(main: tuple[str, str] | None) -> None:
    """Make the app's own script importable as the `__main__` that its functions say they come from, without running its
    `if __name__ == '__main__'` part; what `multiprocessing` does for a spawned process."""
    if main is None:
        return
    import runpy  # noqa: PLC0415 - see above

    kind, where = main
    module = type(sys)('__mp_main__')
    sys.modules['__main__'] = sys.modules['__mp_main__'] = module
    run = runpy.run_module if kind == 'module' else runpy.run_path
    module.__dict__.update(run(where, run_name='__mp_main__'))


def _awaited(result: object) -> object:
    import asyncio  # noqa: PLC0415 - see above

    async def wait() -> object:
        return await result  # type: ignore[misc]  # it has __await__

    return asyncio.run(wait())


def _json(value: object) -> bytes:
    try:
        return _plain(value).encode()
    except TypeError:
        return _any_json(value)


def _plain(value: object) -> str:
    """JSON of the usual types; most answers are made of them, and the json module takes long to load. Raises TypeError."""
    if value is None or value is True or value is False:
        return {None: 'null', True: 'true', False: 'false'}[value]
    kind = type(value)
    if kind is str:
        return encode_basestring_ascii(value)  # type: ignore[arg-type]
    if kind is int:
        return repr(value)
    if kind is list:
        return f'[{",".join([_plain(item) for item in value])}]'  # type: ignore[attr-defined]
    if kind is dict and all(type(key) is str for key in value):  # type: ignore[attr-defined]
        pairs = [f'{_plain(key)}:{_plain(item)}' for key, item in value.items()]  # type: ignore[attr-defined]
        return f'{{{",".join(pairs)}}}'
    raise TypeError


def _any_json(value: object) -> bytes:
    import json  # noqa: PLC0415 - see above

    return json.dumps(value).encode()


def _answer(result: object) -> bytes:
    if type(result).__name__ == 'MediaPart' and type(result).__module__.startswith('lamella.'):
        return _media(result)
    try:
        return _json({'ok': result})
    except (TypeError, ValueError):
        from lamella.core.tools import to_json  # noqa: PLC0415 - only results that are no plain JSON need the package

        try:
            return _json({'ok': to_json(result, 'the sandboxed one')})
        except Exception as error:
            return _failure(error, 'result')


def _media(part: object) -> bytes:
    import base64  # noqa: PLC0415 - see above

    fields = {name: getattr(part, name) for name in ('url', 'data', 'content_type', 'name')}
    if fields['data'] is not None:
        fields['data'] = base64.b64encode(fields['data']).decode()
    return _json({'media': fields})


def _failure(error: BaseException, kind: str = 'error') -> bytes:
    try:
        message = str(error)[:_LONGEST_MESSAGE]
    except BaseException:
        message = 'no message'
    if isinstance(error, MemoryError):
        kind = 'memory'
    elif kind == 'error' and any(base.__name__ == 'ToolError' for base in type(error).__mro__):
        kind = 'tool'
    status = getattr(error, 'status', None)
    status = status if isinstance(status, str) else None
    return _json({'error': {'kind': kind, 'type': type(error).__name__, 'message': message, 'status': status}})
