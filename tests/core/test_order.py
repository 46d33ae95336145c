"""Where layers belong: what is refused, what is warned of, and how it is said."""

import warnings
from typing import Any

import pytest

from lamella import Lamella
from lamella.core.order import Order, OrderWarning, check_order, findings
from lamella.middleware import BaseMiddleware
from lamella.testing import ScriptedModel
from lamella.types import ConfigError


class Free(BaseMiddleware):
    """Says nothing of its place."""


class Guard(BaseMiddleware):
    """Stands outside of Free."""

    order = Order(wraps={'free': 'Free would act before anybody looked'})


class Meek(BaseMiddleware):
    """Stands inside of Free, and needs Guard."""

    order = Order(wrapped_by={'free': 'Free would not see it'}, requires={'guard': 'it relies on what Guard notes'})


class Counter(BaseMiddleware):
    """Is better outside of Free."""

    order = Order(
        better_outside={'free': 'each of its attempts is counted'}, better_inside={'guard': 'refusals count too'}
    )


class First(BaseMiddleware):
    """Is the outermost."""

    order = Order(position='outermost')


class Last(BaseMiddleware):
    """Is the innermost."""

    order = Order(position='innermost')


class Rival(BaseMiddleware):
    """Wants to stand outside of Guard, which wants the same of it."""

    name = 'rival'
    order = Order(wraps={'jealous': 'because'})


class Jealous(BaseMiddleware):
    """Wants to stand outside of Rival."""

    name = 'jealous'
    order = Order(wraps={'rival': 'because'})


class Freer(Free):
    """A kind of Free under a name of its own."""


def said(*layers: Any, whole: bool = True) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in findings(layers, whole=whole)]


def test_layers_that_say_nothing_may_stand_anywhere() -> None:
    assert said(Free(), Free()) == []


def test_a_layer_on_the_wrong_side_is_an_error_that_names_both_with_their_places() -> None:
    assert said(Guard(), Free()) == []
    assert said(Free(), Guard()) == [
        (
            'error',
            'Guard (layer 2 of 2) must stand outside of Free (layer 1 of 2): Free would act before anybody looked. '
            'Put it before that.',
        )
    ]
    assert [level for level, _ in said(Guard(), Meek(), Free())] == ['error']


def test_a_kind_of_layer_is_known_by_its_parents_name_too() -> None:
    assert [message.split(' must')[0] for _, message in said(Freer(), Guard())] == ['Guard (layer 2 of 2)']


def test_what_is_required_must_be_there_in_a_whole_stack() -> None:
    assert said(Meek()) == [
        ('error', 'Meek (layer 1 of 1) needs guard in the same stack: it relies on what Guard notes.')
    ]
    assert said(Meek(), whole=False) == []
    assert said(Free(), Meek(), Guard()) != []
    assert said(Guard(), Free(), Meek()) == []


def test_the_first_and_the_last_have_nothing_beyond_them() -> None:
    assert said(First(), Free(), Last()) == []
    (outer,) = said(Free(), First())
    assert outer == (
        'error',
        'First (layer 2 of 2) must be the outermost layer, but Free (layer 1 of 2) stands outside of it.',
    )
    (inner,) = said(Last(), Free())
    assert 'must be the innermost layer' in inner[1]


def test_rules_that_no_order_suits_are_said_to_be_so() -> None:
    for layers in ((Rival(), Jealous()), (Jealous(), Rival())):
        (finding,) = findings(layers)
        assert finding.level == 'error'
        assert 'no order suits both' in finding.message
        assert {'Rival', 'Jealous'} <= set(finding.message.replace('(', ' ').split())


def test_doubtful_orders_come_after_errors_and_are_explained() -> None:
    found = said(Free(), Counter(), Guard())
    assert [level for level, _ in found] == ['error', 'warning', 'warning']
    assert 'each of its attempts is counted' in found[1][1]


def test_a_doubtful_order_is_a_warning_an_error_or_nothing() -> None:
    with pytest.warns(OrderWarning, match='should rather stand outside of Free'):
        check_order([Free(), Counter()])
    with pytest.raises(ConfigError, match='the order of the layers: Counter'):
        check_order([Free(), Counter()], 'error')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_order([Free(), Guard()], 'ignore')


async def test_an_app_checks_its_own_layers_and_each_calls() -> None:
    with pytest.raises(ConfigError, match='must stand outside of Free'):
        Lamella(use=[Free(), Guard()])
    ai = Lamella(model=ScriptedModel(['a', 'b']), use=[Free()])
    with pytest.raises(ConfigError, match=r'Guard \(layer 2 of 2\) must stand outside of Free \(layer 1 of 2\)'):
        await ai.generate(prompt='hi', use=[Guard()])
    assert (await ai.generate(prompt='hi', use=[Free()])).text == 'a'


async def test_the_same_doubtful_order_is_warned_of_once() -> None:
    ai = Lamella(model=ScriptedModel(['a', 'b']), use=[Free()])
    with pytest.warns(OrderWarning):
        await ai.generate(prompt='hi', use=[Counter()])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert (await ai.generate(prompt='hi', use=[Counter()])).text == 'b'


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="check_order='loud'"):
        Lamella(check_order='loud')  # type: ignore[arg-type]
