"""What the catalog's layers say of their order: true names, sentences, no contradictions, and the stacks of the pages pass."""

import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from lamella.core.order import Finding, Order, findings
from lamella.middleware import (
    Cache,
    CircuitBreaker,
    ConcurrencyLimit,
    CostTracking,
    Fallback,
    Hedge,
    Idempotency,
    PIIRedaction,
    RateLimit,
    Retry,
    RetryBudget,
    TenantBudget,
    Timeout,
    ToolApproval,
)
from tests.middleware.samples import LAYERS, sample

RULES = [
    (name, kind, other, why)
    for name, layer in sorted(LAYERS.items())
    if layer.name == name
    for kind in ('wraps', 'wrapped_by', 'requires', 'better_outside', 'better_inside')
    for other, why in getattr(layer.order, kind).items()
]
ids = [f'{name}-{kind}-{other}' for name, kind, other, _ in RULES]
PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'order.md'


@pytest.mark.parametrize(('name', 'kind', 'other', 'why'), RULES, ids=ids)
def test_a_rule_names_a_layer_there_is_and_says_what_would_happen(name: str, kind: str, other: str, why: str) -> None:
    assert other in LAYERS
    assert other != name
    assert re.fullmatch(r'[a-z].{15,}[^.]', why)


@pytest.mark.parametrize(('name', 'kind', 'other', 'why'), RULES, ids=ids)
def test_a_rule_is_told_on_the_wrong_side_and_not_on_the_right_one(name: str, kind: str, other: str, why: str) -> None:
    one, two = sample(name), sample(other)
    outside, inside = (one, two) if kind in ('better_outside', 'wraps') else (two, one)
    assert findings([outside, inside]) == ()
    (told,) = findings([inside, outside])
    assert type(one).__name__ in told.message
    assert type(two).__name__ in told.message
    assert '(layer 1 of 2)' in told.message
    assert '(layer 2 of 2)' in told.message


def test_no_two_rules_contradict_each_other() -> None:
    pairs = {(name, other) if kind in ('better_outside', 'wraps') else (other, name) for name, kind, other, _ in RULES}
    assert [pair for pair in pairs if pair[::-1] in pairs] == []


def test_one_order_suits_all_rules() -> None:
    """The rules are a partial order: layers can be taken from the outside in until none is left."""
    pairs = {(name, other) if kind in ('better_outside', 'wraps') else (other, name) for name, kind, other, _ in RULES}
    left = {name for pair in pairs for name in pair}
    while left:
        outermost = {name for name in left if not any(inner == name and outer in left for outer, inner in pairs)}
        assert outermost, f'a circle among {sorted(left)}'
        left -= outermost


def told(*layers: Any) -> list[Finding]:
    return list(findings(layers))


@pytest.mark.parametrize(
    ('layers', 'words'),
    [
        ((Retry(), Cache()), 'each attempt would ask it'),
        ((Cache(), PIIRedaction(entities=['email'])), 'would be kept in the store'),
        ((TenantBudget(max_tokens=1, window_s=60), CostTracking()), 'would not be known when money is set aside'),
        ((CircuitBreaker(threshold=5, cooldown_s=5), Retry()), 'after all attempts'),
        ((Timeout(total_s=1), CircuitBreaker(threshold=5, cooldown_s=5)), 'counts as cancelled'),
        ((RateLimit(max_calls=1, per_s=1), Retry()), 'further attempts would not count'),
    ],
)
def test_doubtful_orders_say_what_would_happen(layers: tuple[Any, ...], words: str) -> None:
    (finding,) = told(*layers)
    assert finding.level == 'warning'
    assert words in finding.message
    assert told(*layers[::-1]) == []


def test_the_stacks_that_the_pages_recommend_pass() -> None:
    resilient = [
        RetryBudget(),
        Retry(),
        Fallback(models=['v/b']),
        CircuitBreaker(threshold=5, cooldown_s=5),
        Hedge(delay_s=1),
        Timeout(total_s=20),
    ]
    limited = [Retry(), RateLimit(max_calls=1, per_s=1), ConcurrencyLimit(max_concurrent=1)]
    paid = [
        Cache(),
        Fallback(models=['v/b']),
        Retry(),
        TenantBudget(max_tokens=1, window_s=60),
        RateLimit(max_calls=1, per_s=1),
    ]
    acting = [ToolApproval(), Idempotency(tools=['x']), PIIRedaction(entities=['email']), Cache(), Retry()]
    for stack in (resilient, limited, paid, acting):
        assert told(*stack) == [], stack
    assert any(told(*order) for order in permutations(limited))


def test_the_page_counts_the_rules() -> None:
    counted = re.search(r'\*\*(\d+) rules\*\*', PAGE.read_text(encoding='utf-8'))
    assert counted is not None
    assert int(counted[1]) == len(RULES)


def test_layers_without_a_say_have_no_rules() -> None:
    assert LAYERS['retry'].order == Order()
