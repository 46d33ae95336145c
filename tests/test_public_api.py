"""The public names and their signatures, compared with tests/public_api.txt; `make api` writes the file anew."""

import enum
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

FILE = Path(__file__).with_name('public_api.txt')
# The first module in this order that exports an object shows it whole; the others only say that they have it too.
PUBLIC = (
    'lamella.types',
    'lamella.core',
    'lamella.middleware',
    'lamella.stores',
    'lamella.wire',
    'lamella.plugins',
    'lamella.plugins.*',
    'lamella.engine',
    'lamella.testing',
    'lamella.simulator',
    'lamella.gateway',
    'lamella',
)
# Spellings that differ between Python versions, and module paths that say where a name lives rather than what it is.
SPELLINGS = (
    (re.compile(r' at 0x[0-9a-fA-F]+'), ''),
    (re.compile(r"<class '([\w.]+)'>"), r'\1'),
    (
        re.compile(
            r'\b(?:lamella(?:\.[a-z_]\w*)*|typing|typing_extensions|collections\.abc|pathlib(?:\._local)?)\.(?=[A-Z])'
        ),
        '',
    ),
    (re.compile(r'\bNoneType\b'), 'None'),
    (re.compile(r'\bOptional\[([\w.]+)\]'), r'\1 | None'),
)
LONGEST_DEFAULT = 60


def plain(text: str) -> str:
    for pattern, replacement in SPELLINGS:
        text = pattern.sub(replacement, text)
    return text


def default_of(parameter: inspect.Parameter) -> str:
    text = plain(repr(parameter.default))
    return text if len(text) <= LONGEST_DEFAULT else f'{type(parameter.default).__name__}(…)'


def annotation_of(annotation: object) -> str:
    return plain(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


def signature_of(obj: Callable[..., object]) -> str:
    """Like `str(inspect.signature(obj))`, with annotations spelled the same whether or not they are kept as strings."""
    try:
        signature = inspect.signature(obj)
    except (TypeError, ValueError):
        return '(…)'
    shown: list[str] = []
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    star = inspect.Parameter.VAR_POSITIONAL not in kinds
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and star:
            shown.append('*')
            star = False
        prefix = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}.get(parameter.kind, '')
        text = prefix + parameter.name
        if parameter.annotation is not inspect.Parameter.empty:
            text += f': {annotation_of(parameter.annotation)}'
        if parameter.default is not inspect.Parameter.empty:
            text += f' = {default_of(parameter)}'
        shown.append(text)
    returns = signature.return_annotation
    arrow = '' if returns is inspect.Signature.empty else f' -> {annotation_of(returns)}'
    return f'({", ".join(shown)}){arrow}'


def constructor_of(cls: type) -> str:
    """Python versions disagree about what an enum, a protocol or a plain exception takes, so those show nothing."""
    if issubclass(cls, enum.Enum) or getattr(cls, '_is_protocol', False):
        return ''
    if issubclass(cls, BaseException) and cls.__init__ in (BaseException.__init__, Exception.__init__):
        return ''
    return signature_of(cls).removesuffix(' -> None')


def exported(module: ModuleType) -> list[str]:
    names = getattr(module, '__all__', None)
    if names is None:
        names = [name for name in vars(module) if not name.startswith('_') and not inspect.ismodule(vars(module)[name])]
    return sorted(names)


def members(cls: type, homes: dict[int, str]) -> Iterator[tuple[str, object]]:
    """What the class itself defines, or inherits from a base of ours that no public module exports."""
    seen = set()
    for base in cls.__mro__:
        if base is not cls and (id(base) in homes or not base.__module__.startswith('lamella')):
            continue
        for name, value in vars(base).items():
            if not name.startswith('_') and name not in seen:
                seen.add(name)
                yield name, value


def async_mark(function: object) -> str:
    return 'async ' if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) else ''


def describe_member(path: str, value: object) -> str | None:
    if isinstance(value, enum.Enum):
        return f'{path} = {value.value!r}'
    if isinstance(value, property):
        returns = annotation_of(getattr(value.fget, '__annotations__', {}).get('return', '?'))
        return f'{path}: {returns} (property)'
    if isinstance(value, classmethod | staticmethod):
        return f'{async_mark(value.__func__)}{path}{signature_of(value.__func__)} ({type(value).__name__})'
    if inspect.isfunction(value):
        return f'{async_mark(value)}{path}{signature_of(value)}'
    return None


def describe(path: str, obj: object, homes: dict[int, str]) -> list[str]:
    if isinstance(obj, type):
        bases = ', '.join(base.__name__ for base in obj.__bases__ if base is not object)
        lines = [f'class {path}{constructor_of(obj)}' + (f' < {bases}' if bases else '')]
        found = (describe_member(f'{path}.{name}', value) for name, value in sorted(members(obj, homes)))
        return lines + [line for line in found if line]
    if inspect.isfunction(obj):
        return [f'{async_mark(obj)}def {path}{signature_of(obj)}']
    if isinstance(obj, frozenset | set):
        return [f'{path} = {{{", ".join(sorted(plain(repr(item)) for item in obj))}}}']
    if isinstance(obj, str | int | float | tuple) or typing.get_origin(obj) is not None:
        return [f'{path} = {plain(repr(obj))}']
    return [f'{path}: {type(obj).__name__}']


def module_names() -> Iterator[str]:
    for pattern in PUBLIC:
        if not pattern.endswith('.*'):
            yield from [pattern] if importlib.util.find_spec(pattern) else []
            continue
        parent = pattern.removesuffix('.*')
        if importlib.util.find_spec(parent) is None:
            continue
        path = importlib.import_module(parent).__path__
        yield from sorted(
            f'{parent}.{found.name}' for found in pkgutil.iter_modules(path) if not found.name.startswith('_')
        )


def public_api() -> str:
    modules = {name: importlib.import_module(name) for name in module_names()}
    homes: dict[int, str] = {}
    for module_name, module in modules.items():
        for name in exported(module):
            obj = getattr(module, name)
            if isinstance(obj, type) or inspect.isfunction(obj) or typing.get_origin(obj) is not None:
                homes.setdefault(id(obj), f'{module_name}.{name}')
    sections = {}
    for module_name, module in modules.items():
        lines = []
        for name in exported(module):
            obj, path = getattr(module, name), f'{module_name}.{name}'
            home = homes.get(id(obj), path)
            lines += describe(path, obj, homes) if home == path else [f'{path} is {home}']
        if lines:
            sections[module_name] = lines
    return '\n'.join('\n'.join([f'# {name}', *lines, '']) for name, lines in sorted(sections.items()))


def test_the_public_names_and_signatures_are_the_listed_ones() -> None:
    listed = FILE.read_text(encoding='utf-8') if FILE.exists() else ''
    assert public_api().splitlines() == listed.splitlines(), 'the public API changed; if that is meant: make api'


def test_the_list_holds_no_address_and_no_path() -> None:
    assert not re.search(r'0x[0-9a-f]{6,}|site-packages|_local', public_api())


def test_a_signature_reads_the_same_with_and_without_postponed_annotations() -> None:
    def eager(path: Path, *, names: Iterator[str] | None = None, **facts: object) -> None: ...
    def postponed(path: 'Path', *, names: 'Iterator[str] | None' = None, **facts: 'object') -> 'None': ...

    wanted = '(path: Path, *, names: Iterator[str] | None = None, **facts: object) -> None'
    assert signature_of(eager) == signature_of(postponed) == wanted


def test_a_default_shows_no_address() -> None:
    def function(clock: object = object()) -> None: ...

    assert signature_of(function) == '(clock: object = <object object>) -> None'


if __name__ == '__main__':
    if sys.argv[1:] != ['--write']:
        sys.exit('usage: python -P tests/test_public_api.py --write')
    FILE.write_text(public_api(), encoding='utf-8')
