"""What the page on resilience says of an outage is what the benchmark measures."""

import re

import pytest

from benchmarks import outage
from tests.markdown import ROOT

PAGE = (ROOT / 'docs' / 'resilience.md').read_text(encoding='utf-8')


def rows(text: str) -> dict[str, list[float]]:
    """The figures of a Markdown table by its first column."""
    lines = [
        line.strip('|').split('|') for line in text.splitlines() if re.match(r'\|[^|]+\|( [\d.]+[% s]* \|)+$', line)
    ]
    return {cells[0].strip(): [float(cell.strip(' %s')) for cell in cells[1:]] for cells in lines}


@pytest.mark.slow
def test_the_figures_on_the_page_are_those_of_the_benchmark() -> None:
    found, said = outage.outcomes(), rows(PAGE)
    measured = rows(outage.table(found))
    assert list(said) == list(measured) == list(outage.STACKS)
    for name, figures in measured.items():
        for mine, theirs in zip(figures, said[name], strict=True):
            assert mine == pytest.approx(theirs, rel=0.1, abs=1.5), name
    best = {one.stack: one for one in found}
    calls = {len(one.calls) for one in found}
    assert len(calls) == 1  # every stack was asked the same
    assert best['RetryBudget, Retry, Timeout'].sent_per_call(*outage.OUTAGE) < 1.3
    assert best['Retry, Timeout'].sent_per_call(*outage.OUTAGE) > 2.5
    assert best['Fallback, CircuitBreaker, Timeout'].sent_per_call(*outage.OUTAGE, main=True) < 0.1
