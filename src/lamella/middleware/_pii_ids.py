"""National numbers: how each is written, and which function checks it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from lamella.middleware import _pii_checks as checks

Shape = tuple[int, ...]


class DigitId(NamedTuple):
    """A number of digits alone. `shapes` are the groups it is written in, each with the characters that may part them; in
    another shape it counts only behind one of the `words`. `sure` says that the digits by themselves tell enough."""

    entity: str
    length: int
    check: Callable[[str], bool]
    shapes: dict[Shape, str]
    words: str
    sure: bool = False


class LetterId(NamedTuple):
    """A number with letters in it, which begins where no letter or digit stands before; it is checked without separators, in
    capitals."""

    entity: str
    regex: str
    check: Callable[[str], bool]


# Without separators a nine-digit number is anybody's: one in ten or eleven passes a single check digit. So those with weak
# checks count as they are usually printed, or behind a word that names them.
DIGIT_IDS = (
    DigitId('us_ssn', 9, checks.us_ssn, {(3, 2, 4): '- '}, r'ssn|social security'),
    DigitId('us_itin', 9, checks.us_itin, {(3, 2, 4): '- '}, r'itin|taxpayer'),
    DigitId('uk_nhs', 10, checks.uk_nhs, {(3, 3, 4): ' -'}, r'\bnhs\b'),
    DigitId('de_tax_id', 11, checks.de_tax_id, {(2, 3, 3, 3): ' '}, r'steuer', sure=True),
    DigitId('nl_bsn', 9, checks.nl_bsn, {(4, 2, 3): '.'}, r'\bbsn\b|burgerservice|sofi'),
    DigitId('pl_pesel', 11, checks.pl_pesel, {}, r'pesel', sure=True),
    DigitId('be_nn', 11, checks.be_nn, {(2, 2, 2, 3, 2): '.-'}, r'rijksregister|registre national|\bnn\b', sure=True),
    DigitId('se_pnr', 10, checks.se_pnr, {(6, 4): '-'}, r'personnummer|personal identity'),
    DigitId('se_pnr', 12, checks.se_pnr, {(8, 4): '-'}, r'personnummer|personal identity'),
    DigitId('no_fnr', 11, checks.no_fnr, {(6, 5): ' '}, r'f(?:ø|oe|o)dselsnummer|personnummer', sure=True),
    DigitId('ch_ahv', 13, checks.ch_ahv, {(3, 4, 4, 2): '.'}, r'\bahv\b|\bavs\b', sure=True),
    DigitId('br_cpf', 11, checks.br_cpf, {(3, 3, 3, 2): '.-'}, r'\bcpf\b', sure=True),
    DigitId('in_aadhaar', 12, checks.in_aadhaar, {(4, 4, 4): ' -'}, r'aadh?aar|uidai'),
    DigitId('ca_sin', 9, checks.ca_sin, {(3, 3, 3): ' -'}, r'\bsin\b|social insurance'),
    DigitId('au_tfn', 9, checks.au_tfn, {}, r'\btfn\b|tax file'),
)
BY_LENGTH: dict[int, tuple[DigitId, ...]] = {
    length: tuple(one for one in DIGIT_IDS if one.length == length) for length in {one.length for one in DIGIT_IDS}
}

LETTER_IDS = (
    LetterId('uk_nino', r'[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?[0-9]{2}){3} ?[A-D](?![A-Za-z0-9_])', checks.uk_nino),
    LetterId('es_dni', r'[0-9]{8}-?[A-HJ-NP-TV-Za-hj-np-tv-z](?![A-Za-z0-9_])', checks.es_dni),
    LetterId('es_nie', r'[XYZxyz]-?[0-9]{7}-?[A-HJ-NP-TV-Za-hj-np-tv-z](?![A-Za-z0-9_])', checks.es_dni),
    LetterId(
        'it_codice_fiscale',
        r'(?i:[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z])(?![A-Za-z0-9_])',
        checks.it_codice_fiscale,
    ),
    LetterId(
        'fr_nir',
        r'[1-478] ?[0-9]{2} ?(?:0[1-9]|[1-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}(?![A-Za-z0-9_])',
        checks.fr_nir,
    ),
    LetterId('cn_rrid', r'[1-9][0-9]{16}[0-9Xx](?![A-Za-z0-9_])', checks.cn_rrid),
)


def _iban() -> str:
    """Each country with as many characters as its accounts have, in groups of any length."""
    by_length: dict[int, list[str]] = {}
    for country, length in checks.IBAN_LENGTHS.items():
        by_length.setdefault(length, []).append(country)
    rows = [f'(?:{"|".join(names)})[0-9]{{2}}(?:[ -]?[A-Z0-9]){{{n - 4}}}' for n, names in by_length.items()]
    return f'(?i:{"|".join(rows)})'


IBAN = LetterId('iban', _iban(), checks.iban)
NATIONAL_IDS = tuple(dict.fromkeys([one.entity for one in (*DIGIT_IDS, *LETTER_IDS)]))
WORDS = {one.entity: re.compile(one.words, re.IGNORECASE | re.ASCII) for one in DIGIT_IDS}
