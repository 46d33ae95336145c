"""Seals open for the seed that made them, and for nothing else."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from lamella.simulator.seals import call_id, opened, sealed, thought_stamp

WORDS = st.text(st.characters(codec='utf-8'))


@given(st.integers(), WORDS, WORDS)
def test_a_seal_opens_to_its_thought(seed: int, model: str, thought: str) -> None:
    seal = sealed(seed, model, thought)
    assert opened(seed, seal) == thought
    assert opened(seed + 1, seal) is None


@given(WORDS, st.data())
def test_a_seal_with_another_letter_anywhere_does_not_open(thought: str, data: st.DataObject) -> None:
    raw = bytearray(base64.b64decode(sealed(0, 'm', thought)))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    assert opened(0, base64.b64encode(bytes(raw)).decode()) is None


@given(st.text())
def test_what_is_no_seal_does_not_open(text: str) -> None:
    assert opened(0, text) is None


def test_the_url_safe_alphabet_is_taken_too() -> None:
    seals = [sealed(0, 'm', f'{number}') for number in range(50)]
    others = [base64.urlsafe_b64encode(base64.b64decode(seal)).decode() for seal in seals]
    assert seals != others
    assert [opened(0, seal) for seal in others] == [f'{number}' for number in range(50)]


def test_seed_model_and_thought_each_make_another_seal() -> None:
    assert len({sealed(0, 'm', 't'), sealed(1, 'm', 't'), sealed(0, 'n', 't'), sealed(0, 'm', 'u')}) == 4


def test_an_id_tells_whether_a_thought_went_before_the_call() -> None:
    stamp = '0123456789abcdef01234567'
    assert thought_stamp(call_id('toolu_', stamp, 1, thought=True)) == stamp
    assert thought_stamp(call_id('toolu_', stamp, 1, thought=False)) is None
    assert thought_stamp('toolu_01A09q90qw90lq917835lq9') is None
    assert thought_stamp(None) is None
