"""`lamella new`: a package with a layer of one's own, which passes its own tests."""

from __future__ import annotations

import re
from pathlib import Path

import click

from lamella.cli._echo import echo
from lamella.cli._target import Unusable
from lamella.cli.commands import installed_version
from lamella.core.middleware import snake_case

_WORD = re.compile(r'[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*')


@click.group()
def new() -> None:
    """Begin something of your own."""


@new.command()
@click.argument('name')
@click.option(
    '--folder', type=click.Path(path_type=Path), help='Where the package goes; the name in this folder when left out.'
)
def layer(name: str, folder: Path | None) -> None:
    """Write a package with one layer, its settings, its tests and its entry point.

    NAME is that of the layer, such as `polite` or `PoliteAnswers`. Nothing that exists is overwritten.
    """
    if not _WORD.fullmatch(name):
        raise Unusable(f'{name!r} is no name for a layer: use letters, digits and _, such as polite')
    short = snake_case(name.replace('-', '_')).lower()
    kind = ''.join(word[:1].upper() + word[1:] for word in re.split('[_-]', name))
    target = folder or Path(f'lamella-{short.replace("_", "-")}')
    if target.exists() and any(target.iterdir()):
        raise Unusable(f'{target} exists and is not empty: choose another --folder')
    for path, text in project(short, kind).items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding='utf-8')
        echo(str(file))
    echo(f"\nnext: cd {target} && python -m pip install -e '.[test]' && python -m pytest")


def project(short: str, kind: str) -> dict[str, str]:
    """The files of the package by their paths. `short` is the layer's name in files, `kind` its class."""
    names = {
        'SHORT': short,
        'KIND': kind,
        'MODULE': f'lamella_{short}',
        'PACKAGE': f'lamella-{short.replace("_", "-")}',
    }
    names['VERSION'] = version if re.fullmatch(r'\d+(\.\d+)*', version := installed_version()) else '0'
    files = {}
    for path, text in _FILES.items():
        for name, value in names.items():
            path, text = path.replace(f'@{name}@', value), text.replace(f'@{name}@', value)
        files[path] = text
    return files


_FILES = {
    'pyproject.toml': """[build-system]
requires = ['hatchling>=1.26']
build-backend = 'hatchling.build'

[project]
name = '@PACKAGE@'
version = '0.1.0'
description = 'A Lamella layer: @KIND@.'
requires-python = '>=3.11'
dependencies = ['lamella>=@VERSION@']

[project.optional-dependencies]
test = ['anyio>=4.12', 'pytest>=8.4']

[project.entry-points.'lamella.middleware']
@SHORT@ = '@MODULE@:@KIND@'

[tool.hatch.build.targets.wheel]
packages = ['src/@MODULE@']

[tool.pytest.ini_options]
anyio_mode = 'auto'
""",
    'README.md': """# @PACKAGE@

A [Lamella](https://pypi.org/project/lamella/) layer that puts one system message in front of every request.

```python
from lamella import Lamella
from @MODULE@ import @KIND@

ai = Lamella(use=[@KIND@(text='Be kind.')])
```

In a `lamella.toml` it goes by its name: `default = [{ use = '@SHORT@', text = 'Be kind.' }]`.
""",
    'src/@MODULE@/__init__.py': '''"""A Lamella layer: @KIND@."""

from __future__ import annotations

from typing import Annotated, TypedDict, Unpack

from lamella import Message
from lamella.middleware import BaseMiddleware, GenerateMiddlewareContext, ModelHookParams
from pydantic import BaseModel, Field

__all__ = ['@KIND@', '@KIND@Config']


class @KIND@Config(BaseModel, frozen=True, extra='forbid'):
    """The settings of `@KIND@`."""

    text: Annotated[str, Field(min_length=1, description='What the model is told first.')] = 'Be brief.'


class @KIND@Options(TypedDict, total=False):
    """The keywords of `@KIND@`."""

    text: str


class @KIND@(BaseMiddleware[@KIND@Config]):
    """Puts one system message in front of every request. Event: `@SHORT@.added(text)`."""

    def __init__(self, config: @KIND@Config | None = None, **options: Unpack[@KIND@Options]) -> None:
        super().__init__(config, **options)

    async def transform_params(self, params: ModelHookParams, ctx: GenerateMiddlewareContext) -> ModelHookParams:
        first = Message.system(self.config.text)
        ctx.emit('@SHORT@.added', text=self.config.text)
        return params.replace(request=params.request.replace(messages=(first, *params.request.messages)))
''',
    'src/@MODULE@/py.typed': '',
    'tests/test_@SHORT@.py': '''"""@KIND@: what the model is told, in both modes, and what is refused."""

import pytest
from lamella import Lamella
from lamella.testing import CollectingSink, ScriptedModel, StreamChecker
from lamella.types import ConfigError

from @MODULE@ import @KIND@


@pytest.fixture
def anyio_backend() -> str:
    return 'asyncio'


async def test_the_model_is_told_first() -> None:
    model, sink = ScriptedModel(['hello']), CollectingSink()
    ai = Lamella(model=model, sinks=[sink])
    response = await ai.generate(prompt='hi', use=[@KIND@(text='Be kind.')])
    assert response.text == 'hello'
    assert [message.text for message in model.requests[0].messages] == ['Be kind.', 'hi']
    assert [event.facts for event in sink.named('@SHORT@.added')] == [{'text': 'Be kind.'}]


async def test_a_stream_is_the_same() -> None:
    ai = Lamella(model=ScriptedModel(['hello']))
    stream = ai.generate_stream(prompt='hi', use=[StreamChecker(), @KIND@()])
    assert ''.join([text async for text in stream.text_stream]) == 'hello'


def test_wrong_settings_are_refused_when_it_is_built() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'texxt': did you mean 'text'"):
        @KIND@(texxt='x')  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match='text'):
        @KIND@(text='')


def test_it_goes_by_its_name_in_a_file(tmp_path) -> None:
    (tmp_path / 'lamella.toml').write_text("[chains]\\ndefault = [{ use = '@SHORT@', text = 'x' }]")
    (found,) = Lamella.from_config(tmp_path / 'lamella.toml').stack.layers
    assert isinstance(found, @KIND@)
''',
}
