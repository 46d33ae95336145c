"""What a call costs: own prices, patterns, the package's prices, and what is said of an unknown one."""

from __future__ import annotations

import copy
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot, set_custom_snapshot
from genai_prices.types import ModelPrice
from hypothesis import given
from hypothesis import strategies as st

from lamella import Lamella
from lamella.core import prices as module
from lamella.core.prices import BUNDLED, Price, PriceTable, Rates, check_prices, price_of, prices_of
from lamella.middleware import _genai_prices as adapter
from lamella.types import ConfigError, Usage

ONE_TWO = {'input_per_mtok': 1, 'output_per_mtok': 2}
MILLION = Usage(1_000_000, 1_000_000)


def cost(prices: Any, model: str, usage: Usage = MILLION, answered: str | None = None) -> float | None:
    price = price_of(prices, model, usage, answered)
    return None if price is None else price.cost_usd


def test_each_kind_of_token_has_its_price() -> None:
    rates = Rates(1.0, 10.0, cached_per_mtok=0.1, cache_write_per_mtok=1.25, reasoning_per_mtok=20.0)
    usage = Usage(1000, 100, cached_tokens=600, cache_write_tokens=200, reasoning_tokens=40)
    assert rates.cost(usage) * 1e6 == pytest.approx(200 * 1 + 600 * 0.1 + 200 * 1.25 + 60 * 10 + 40 * 20)


def test_a_price_that_is_not_given_is_that_of_the_whole_and_zero_is_zero() -> None:
    usage = Usage(1000, 100, cached_tokens=600, cache_write_tokens=200, reasoning_tokens=40)
    assert Rates(1, 10).cost(usage) * 1e6 == pytest.approx(1000 + 1000)
    assert Rates(1, 10, cached_per_mtok=0, reasoning_per_mtok=0).cost(usage) * 1e6 == pytest.approx(400 + 600)


@given(
    *[st.one_of(st.none(), st.integers(0, 10**9)) for _ in range(5)],
    *[st.floats(0, 1000) for _ in range(2)],
)
def test_no_report_however_odd_costs_less_than_nothing(i, o, cached, reasoning, written, price_in, price_out) -> None:
    usage = Usage(i, o, cached_tokens=cached, reasoning_tokens=reasoning, cache_write_tokens=written)
    assert Rates(price_in, price_out).cost(usage) >= 0
    found = price_of(BUNDLED, 'openai/gpt-5', usage)
    assert (found is None) == (i is None and o is None)
    assert found is None or found.cost_usd >= 0


def test_the_exact_name_comes_before_patterns_and_the_fuller_pattern_first() -> None:
    table = PriceTable(
        {
            '*': {'input_per_mtok': 1, 'output_per_mtok': 0},
            'x/*': {'input_per_mtok': 2, 'output_per_mtok': 0},
            'x/a*b': {'input_per_mtok': 3, 'output_per_mtok': 0},
            'x/ab': {'input_per_mtok': 4, 'output_per_mtok': 0},
        }
    )
    assert [cost(table, name) for name in ('y/z', 'x/z', 'x/a.b', 'x/ab', 'plain', 'x/aXb.c')] == [1, 2, 3, 4, 1, 2]


def test_a_pattern_has_no_other_signs_than_the_star() -> None:
    table = PriceTable({'x/a.c*': ONE_TWO, 'x/[ab]*': ONE_TWO})
    assert [cost(table, name) for name in ('x/abc', 'x/a', 'x/a.c\nd', 'x/[ab]')] == [None, None, 3, 3]


def test_the_price_of_the_name_that_was_asked_wins_over_that_of_the_answer() -> None:
    table = PriceTable({'x/a': ONE_TWO, 'x/a-2025': {'input_per_mtok': 9, 'output_per_mtok': 9}})
    assert cost(table, 'x/a', answered='x/a-2025') == 3
    assert cost(table, 'x/router', answered='x/a-2025') == 18
    assert cost(table, 'x/router', answered='x/other') is None


def test_a_model_that_the_table_does_not_have_is_asked_of_the_package() -> None:
    prices = prices_of({'x/a': ONE_TWO})
    assert price_of(prices, 'x/a', MILLION) == Price(3, 'own')
    found = price_of(prices, 'openai/gpt-5', MILLION)
    assert found is not None
    assert found.source == 'genai-prices'


def test_a_usage_that_tells_no_tokens_has_no_price() -> None:
    assert price_of(PriceTable({'*': ONE_TWO}), 'x/a', Usage()) is None
    assert price_of(BUNDLED, 'openai/gpt-5', Usage(total_tokens=5)) is None


@pytest.mark.parametrize(
    ('asked', 'answered', 'known'),
    [
        ('openai/gpt-5', 'openai/gpt-5-2025-08-07', True),
        ('googleai/gemini-2.5-pro', None, True),
        ('vertexai/gemini-2.5-pro', None, True),
        ('litellm/anthropic/claude-sonnet-4-5', None, True),
        ('openrouter/anthropic/claude-sonnet-4.5', None, True),
        ('azure/my-deployment', 'azure/gpt-4o', True),
        ('openai/no-such-model', None, False),
        ('ollama/gpt-oss', None, False),
        ('gpt-5', None, False),
    ],
)
def test_the_packages_prices_by_the_names_that_are_used_here(asked: str, answered: str | None, known: bool) -> None:
    assert (cost(BUNDLED, asked, answered=answered) is not None) == known


def test_cached_tokens_are_cheaper_and_written_ones_dearer_where_the_provider_says_so() -> None:
    plain = cost(BUNDLED, 'anthropic/claude-sonnet-4-5', Usage(1000, 0))
    cached = cost(BUNDLED, 'anthropic/claude-sonnet-4-5', Usage(1000, 0, cached_tokens=1000))
    written = cost(BUNDLED, 'anthropic/claude-sonnet-4-5', Usage(1000, 0, cache_write_tokens=1000))
    assert plain is not None
    assert cached is not None
    assert written is not None
    assert cached < plain < written


@pytest.mark.parametrize(
    ('wrong', 'problems'),
    [
        ({'x': 1}, ["prices['x'] is 1: give {'input_per_mtok'"]),
        ({'x': {'input_per_mtok': 1}}, ["prices['x'] has no output_per_mtok"]),
        ({'x': {'inptu_per_mtok': 1, **ONE_TWO}}, ["unknown key 'inptu_per_mtok': did you mean 'input_per_mtok'"]),
        (
            {'x': {'input_per_mtok': -1, 'output_per_mtok': '2'}, 'y': {'input_per_mtok': True, 'output_per_mtok': float('nan')}},
            ["prices['x'].input_per_mtok is -1", "prices['x'].output_per_mtok is '2'",
             "prices['y'].input_per_mtok is True", "prices['y'].output_per_mtok is nan"],
        ),
        (5, ['prices is a int', 'an object with a method cost']),
        ('genai', ['prices is a str']),
    ],
)  # fmt: skip
def test_wrong_prices_are_one_error_with_every_problem(wrong: Any, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_prices(wrong)
    assert [problem for problem in problems if problem not in str(caught.value)] == []
    with pytest.raises(ConfigError):
        Lamella(prices=wrong)


def test_without_the_package_a_table_does_and_nothing_at_all_names_the_command(monkeypatch) -> None:
    monkeypatch.setattr(module, 'find_spec', lambda name: None)
    table = prices_of({'x/a': ONE_TWO})
    assert [cost(table, 'x/a'), cost(table, 'openai/gpt-5')] == [3, None]
    with pytest.raises(ConfigError, match=r"pip install 'lamella\[prices\]', or give prices=\{"):
        prices_of(None)


def test_an_object_that_knows_prices_is_taken_as_it_is() -> None:
    class Mine:
        def cost(self, provider: str, model: str, usage: Usage, answered: str | None = None) -> Price | None:
            return Price(7.0, f'{provider}:{model}')

    mine = Mine()
    ai = Lamella(prices=mine)
    assert ai.resolve_prices(None) is mine
    assert price_of(mine, 'x/a/b', MILLION) == Price(7.0, 'x:a/b')
    assert price_of(mine, 'function', MILLION) == Price(7.0, ':function')


def test_the_package_is_loaded_by_the_first_question_and_not_before() -> None:
    program = """
import sys
import lamella.middleware
from lamella import Lamella
ai = Lamella(prices={'x/a': {'input_per_mtok': 1, 'output_per_mtok': 2}})
prices = ai.resolve_prices(None)
before = 'genai_prices' in sys.modules
from lamella.core.prices import price_of
from lamella.types import Usage
price_of(prices, 'x/a', Usage(1, 1))
own = 'genai_prices' in sys.modules
price_of(prices, 'openai/gpt-5', Usage(1, 1))
print(before, own, 'genai_prices' in sys.modules)
"""
    ran = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ['False', 'False', 'True']


def test_prices_that_are_worked_out_once_are_those_of_the_package() -> None:
    """For every model of the package, and for a usage with all kinds of tokens in it."""
    ours, usage = adapter.GenaiPrices(), Usage(1000, 500, None, 300, 120, 200)
    models = [(provider.id, model.id) for provider in get_snapshot().providers for model in provider.models]
    assert len(models) > 2000
    flat = 0
    for provider, model in models:
        flat += ours._rates(provider, model) is not None
        try:
            theirs = adapter._asked(provider, model, adapter._tokens(usage))
        except (LookupError, ValueError):
            continue
        found = ours.cost(provider, model, usage)
        assert found is not None
        assert found.cost_usd == pytest.approx(theirs, rel=1e-9, abs=1e-12), (provider, model)
    assert flat > 1800


@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)
)
def test_and_that_for_any_usage(i, o, cached, written, thought) -> None:
    usage = Usage(i + cached + written, max(o, thought), None, cached, thought, written)
    theirs = adapter._asked('anthropic', 'claude-sonnet-4-5', adapter._tokens(usage))
    ours = cost(adapter.GenaiPrices(), 'anthropic/claude-sonnet-4-5', usage)
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_new_data_is_priced_anew() -> None:
    prices = adapter.GenaiPrices()
    before = cost(prices, 'openai/gpt-5')
    dear = copy.deepcopy(get_snapshot())
    _, model = dear.find_provider_model('gpt-5', None, 'openai', None)
    model.prices = ModelPrice(input_mtok=Decimal(100), output_mtok=Decimal(100))
    set_custom_snapshot(dear)
    try:
        assert cost(prices, 'openai/gpt-5') == 200
    finally:
        set_custom_snapshot(None)
    assert cost(prices, 'openai/gpt-5') == before
