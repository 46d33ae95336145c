"""`lamella run`: flows and functions with an input, pipes, and exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lamella.cli.commands import lamella

PROGRAM = """
from pydantic import BaseModel
from lamella import Lamella, LamellaError
from lamella.testing import ScriptedModel

ai = Lamella(model=ScriptedModel(['hello ünï'], repeat=True))

class Order(BaseModel):
    item: str
    count: int = 1

@ai.flow()
async def greet(name: str) -> str:
    return f'{(await ai.generate(prompt=name)).text} {name}'

@ai.flow('other-name')
async def order(order: Order, ctx) -> Order:
    return Order(item=f'{order.item} for {ctx.context.get("user")}', count=order.count + 1)

@ai.flow()
async def fails(x: str) -> str:
    raise LamellaError('UNAVAILABLE', 'down')

@ai.flow()
async def nothing() -> None:
    return None

async def plain(n: int) -> int:
    return n * 2

number = 3
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f'flows_{tmp_path.name}.py').write_text(PROGRAM)
    (tmp_path / 'input.json').write_text('{"item": "tea", "count": 4}')


def run(target: str, *arguments: str, input: str | None = None) -> Result:
    module = f'flows_{Path.cwd().name}'
    result = CliRunner().invoke(lamella, ['run', target.replace('flows:', f'{module}:'), *arguments], input=input)
    assert 'Traceback' not in result.output
    return result


@pytest.mark.parametrize(
    ('target', 'arguments', 'printed'),
    [
        ('flows:greet', ('--input', 'Ann'), 'hello ünï Ann\n'),
        ('flows:greet', ('--input', '"Ann"', '--json'), '"hello ünï Ann"\n'),
        ('flows:plain', ('--input', '21'), '42\n'),
        ('flows:nothing', (), ''),
        ('flows:ai.other-name', ('--input', '@input.json', '--json'), '{"item": "tea for None", "count": 5}\n'),
        ('flows:order', ('--input', '{"item": "x"}', '--context', '{"user":"u"}', '--json'), '{"item": "x for u", "count": 2}\n'),
    ],
)  # fmt: skip
def test_the_result_is_printed_and_nothing_else(target: str, arguments: tuple[str, ...], printed: str) -> None:
    result = run(target, *arguments)
    assert (result.exit_code, result.stdout) == (0, printed), result.output


def test_input_comes_from_a_pipe() -> None:
    assert run('flows:greet', '--input', '-', input='Bob\n').stdout == 'hello ünï Bob\n'


def test_without_json_a_model_is_printed_for_a_person() -> None:
    shown = run('flows:order', '--input', '@input.json').stdout
    assert json.loads(shown) == {'item': 'tea for None', 'count': 5}
    assert shown.count('\n') > 2


def test_a_flow_that_fails_has_code_1_and_says_so_on_stderr() -> None:
    result = run('flows:fails', '--input', 'x')
    assert (result.exit_code, result.stdout) == (1, '')
    assert 'UNAVAILABLE: down' in result.stderr


@pytest.mark.parametrize(
    ('target', 'arguments', 'problem'),
    [
        ('flows:order', ('--input', '{"itm": "x"}'), 'item'),
        ('flows:order', ('--input', '@nothing.json'), '--input: nothing.json cannot be read'),
        ('flows:order', ('--input', '{}', '--context', '[1]'), 'give a JSON object'),
        ('flows:number', (), 'name a flow'),
        ('flows:nobody', (), "has no 'nobody'"),
        ('nowhere:x', (), "no module 'nowhere'"),
        ('x', (), 'write module:name'),
    ],
)
def test_wrong_usage_has_code_2(target: str, arguments: tuple[str, ...], problem: str) -> None:
    result = run(target, *arguments)
    assert (result.exit_code, problem in result.stderr) == (2, True), result.output
