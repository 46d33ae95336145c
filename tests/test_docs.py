"""Every Python block of the documentation is a program that runs: page by page, in order, with top-level await, offline."""

import ast
import asyncio
import inspect
import linecache
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.markdown import ENVIRONMENTS, ROOT, blocks, environment_of, pages, problems

WRONG_ON_PURPOSE = {'docs/stream_rules.md': [pytest.mark.breaks_stream_rules]}
PAGES = [
    pytest.param(page, id=name, marks=WRONG_ON_PURPOSE.get(name, []))
    for page in pages()
    if (name := str(page.relative_to(ROOT)))
]
PROGRAMS = [
    param for param in PAGES if any(block.is_run for block in blocks(param.values[0].read_text(encoding='utf-8')))
]


def run_page(text: str, filename: str, module: ModuleType) -> int:
    """Runs the blocks of one page in one namespace and on one event loop; returns how many ran.

    A block with a top-level await runs on the loop. Any other runs outside of it, so that it may call `asyncio.run` itself.
    """
    ran = 0
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    with asyncio.Runner() as runner:
        for block in blocks(text):
            if not block.is_run:
                continue
            source = '\n' * (block.line - 1) + block.source
            code = compile(source, filename, 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, module.__dict__))
            else:
                exec(code, module.__dict__)
            ran += 1
    return ran


@pytest.mark.parametrize('page', PROGRAMS)
def test_the_examples_of_the_page_run(
    page: Path, docs_namespace: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text(encoding='utf-8')
    if environment := environment_of(text):
        pytest.skip(f'the page runs in an environment of its own: {ENVIRONMENTS[environment]}')
    module = ModuleType('__main__')
    module.__dict__.update(docs_namespace)
    monkeypatch.setitem(sys.modules, '__main__', module)
    monkeypatch.chdir(tmp_path)
    assert run_page(text, str(page), module) == sum(block.is_run for block in blocks(text))


@pytest.mark.parametrize('page', PAGES)
def test_no_python_on_the_page_goes_unrun_without_a_reason(page: Path) -> None:
    assert problems(page.read_text(encoding='utf-8')) == []


def run_text(text: str) -> ModuleType:
    module = ModuleType('__main__')
    run_page(text, 'page.md', module)
    return module


def test_blocks_share_a_namespace_and_a_loop_and_may_await_at_the_top() -> None:
    page = """
```python
import asyncio
waiting = asyncio.Event()
await asyncio.sleep(0)
loop = asyncio.get_running_loop()
```
~~~text
not code
~~~
```python
waiting.set()
await waiting.wait()
same = loop is asyncio.get_running_loop()
```
"""
    assert run_text(page).same is True


def test_a_block_without_await_may_start_a_loop_of_its_own() -> None:
    page = '```python\nimport asyncio\nasync def main():\n    return 3\nanswer = asyncio.run(main())\n```\n'
    assert run_text(page).answer == 3


def test_a_failing_example_names_its_line_on_the_page() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_text('# Title\n\n```python\none = 1\none / 0\n```\n')
    assert caught.traceback[-1].lineno + 1 == 5


def test_a_block_with_a_reason_is_not_run() -> None:
    assert not hasattr(run_text('<!-- not run: needs a paid key -->\n```python\nran = 1\n```\n'), 'ran')


@pytest.mark.parametrize(
    'page',
    [
        '```py\n1\n```\n',
        '```python title="x.py"\n1\n```\n',
        '~~~Python\n1\n~~~\n',
        '- item\n\n  ```python\n  1\n  ```\n',
        '```{.python}\n1\n```\n',
        '<!-- not run: -->\n```python\n1\n```\n',
        '<!-- not run: just because -->\n\n```python\n1\n```\n',
        '<!-- skip -->\n```python\n1\n```\n',
        '<!-- environment: nowhere -->\n```python\n1\n```\n',
        'Late.\n<!-- environment: adk -->\n```python\n1\n```\n',
    ],
)
def test_python_that_would_slip_through_is_reported(page: str) -> None:
    assert problems(page)


@pytest.mark.parametrize(
    'page',
    [
        '```python\n1\n```\n',
        '~~~python\n1\n~~~\n',
        '```sh\nmake\n```\n',
        '<!-- not run: needs a key -->\n```python\n1\n```\n',
        '<!-- environment: adk -->\n```python\n1\n```\n',
    ],
)
def test_a_page_in_order_has_no_problems(page: str) -> None:
    assert problems(page) == []


def test_examples_reach_this_machine_only() -> None:
    with pytest.raises(ConnectionRefusedError, match='this machine only'):
        run_text('```python\nimport socket\nsocket.create_connection(("example.com", 443), timeout=1)\n```\n')
