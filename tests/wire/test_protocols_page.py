"""docs/protocols.md claims only what a test shows: each of its links leads to a test that exists."""

import re

import pytest

from tests.markdown import ROOT

PAGE = ROOT / 'docs' / 'protocols.md'
LINK = re.compile(r'\[[^\]]+\]\((?P<path>\.\./tests/[^ )]+) "(?P<test>test_\w+)"\)')
ROWS = [line for line in PAGE.read_text(encoding='utf-8').splitlines() if line.startswith('| ') and '**' not in line]


def test_every_row_says_something_of_every_protocol() -> None:
    rows = ROWS[1:]
    assert len(rows) > 30
    assert [row for row in rows if len(LINK.findall(row)) != 4] == []


@pytest.mark.parametrize(('path', 'test'), sorted(set(LINK.findall(PAGE.read_text(encoding='utf-8')))))
def test_every_link_leads_to_a_test(path: str, test: str) -> None:
    source = (PAGE.parent / path).resolve().read_text(encoding='utf-8')
    assert re.search(rf'^(async )?def {test}\(', source, re.MULTILINE), f'{path} has no {test}'
