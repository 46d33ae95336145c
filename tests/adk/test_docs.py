"""The pages of the documentation that run in this environment: `<!-- environment: adk -->` on their first line."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.markdown import ROOT, blocks, environment_of, pages
from tests.test_docs import run_page

PAGES = [page for page in pages() if environment_of(page.read_text(encoding='utf-8')) == 'adk']


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_the_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, text = ModuleType('__main__'), page.read_text(encoding='utf-8')
    monkeypatch.setitem(sys.modules, '__main__', module)
    monkeypatch.chdir(tmp_path)
    assert run_page(text, str(page), module) == sum(block.is_run for block in blocks(text)) > 0


def test_the_page_on_the_adk_is_among_them() -> None:
    assert ROOT / 'docs' / 'adk.md' in PAGES
