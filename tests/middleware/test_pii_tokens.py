"""Tokens: one run's own, and turned back however the text arrives."""

import json as jsonlib
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.middleware._pii import ENTITIES, Recognisers
from lamella.middleware._pii_text import Masker
from lamella.middleware._pii_tokens import RestoringStream, Vault, token_pattern

RECOGNISERS = Recognisers(ENTITIES, {'employee': r'E\d{6}', 'quote': r'"q"'}, ('US',))
PATTERN = token_pattern(RECOGNISERS.entities)
TEXT = 'From anna@example.com (E123456) to bob@example.com, card 4111 1111 1111 1111; again anna@example.com.'


def vault(secret: bytes = b'one', allow: frozenset[str] = frozenset()) -> Vault:
    return Vault(Masker(RECOGNISERS, allow), PATTERN, secret)


def test_the_same_value_has_the_same_token_and_the_text_comes_back() -> None:
    mine, found = vault(), Counter[str]()
    hidden = mine.tokenised(TEXT, found)
    assert (
        re.sub(r'_[a-z2-7]{8}', '', hidden)
        == 'From <EMAIL_1> (<EMPLOYEE_1>) to <EMAIL_2>, card <CARD_1>; again <EMAIL_1>.'
    )
    assert mine.tokenised(TEXT) == hidden
    assert mine.restored(hidden) == TEXT
    assert found == {'email': 3, 'card': 1, 'employee': 1}
    assert 'anna' not in repr(mine)


def test_only_the_run_that_made_a_token_can_turn_it_back() -> None:
    one, two = vault(b'one'), vault(b'two')
    hidden, other = one.tokenised(TEXT), two.tokenised('x@y.org and z@y.org')
    assert two.restored(hidden) == hidden
    assert one.restored(other) == other


def test_a_token_that_is_made_up_stays_what_it_is() -> None:
    mine = vault()
    token = mine.tokenised('anna@example.com')
    tag = token[-9:-1]
    for forged in (
        '<EMAIL_1>',
        f'<EMAIL_2_{tag}>',
        f'<CARD_1_{tag}>',
        '<EMAIL_1_aaaaaaaa>',
        f'<EMAIL_01_{tag}>',
        token.lower(),
    ):
        assert mine.restored(forged) == forged


def test_brackets_that_a_model_left_out_are_not_missed() -> None:
    mine = vault()
    token = mine.tokenised('anna@example.com')
    core = token.strip('<>')
    assert (
        mine.restored(f'{core}, (<{core}> `{core}` <{core}')
        == 'anna@example.com, (anna@example.com `anna@example.com` <anna@example.com'
    )


def test_allowed_texts_get_no_token() -> None:
    assert vault(allow=frozenset(['anna@example.com'])).tokenised('ANNA@example.com') == 'ANNA@example.com'


def test_in_json_the_original_is_written_as_json() -> None:
    mine = vault()
    hidden = mine.tokenised('"q"')
    assert jsonlib.loads(mine.restored(f'["{hidden}"]', json=True)) == ['"q"']


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_tokens_come_back_however_the_text_is_cut(data: st.DataObject) -> None:
    mine = vault()
    tokens = [mine.tokenised(value) for value in ('anna@example.com', 'E123456', '4111111111111111', 'E654321')]
    pieces = [
        *tokens,
        *(token.strip('<>') for token in tokens),
        '<',
        '>',
        'EMAIL_1_',
        'E',
        'CARD',
        '_',
        ' ',
        'text',
        tokens[0][:9],
        '1',
    ]
    text = ''.join(data.draw(st.lists(st.sampled_from(pieces), max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    stream = RestoringStream(mine, json=False)
    said = ''.join([stream.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)])
    assert said + stream.close() == mine.restored(text)


def test_text_passes_at_once_where_no_token_can_begin() -> None:
    mine = vault()
    empty = RestoringStream(vault(b'two'), json=False)
    assert empty.feed('<EMAIL_1_') == '<EMAIL_1_'  # there is nothing to turn back
    token = mine.tokenised('anna@example.com')
    stream = RestoringStream(mine, json=False)
    assert stream.feed('Hello ') == 'Hello '
    assert stream.feed(token[:10]) == ''
    assert stream.feed(token[10:-1]) == ''
    assert stream.feed('> and') == 'anna@example.com and'


@pytest.mark.parametrize('entity', RECOGNISERS.entities)
def test_every_entity_can_have_a_token(entity: str) -> None:
    assert PATTERN.regex.fullmatch(f'<{entity.upper()}_12_abcdefgh>')
