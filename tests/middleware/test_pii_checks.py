"""Check digits, held to numbers that their issuers or well-known references print as examples, and to what they are for."""

from collections.abc import Callable
from random import Random

import pytest

from lamella.middleware import _pii_checks as checks

# Numbers that are published as examples (test cards of the networks; the wiki pages and leaflets on each national number).
PUBLISHED: dict[str, tuple[Callable[[str], bool], list[str]]] = {
    'luhn': (
        checks.luhn,
        ['4111111111111111', '378282246310005', '6011111111111117', '3530111333300000', '30569309025904', '0'],
    ),
    'iban': (
        checks.iban,
        [
            'DE89370400440532013000',
            'GB29NWBK60161331926819',
            'FR1420041010050500013M02606',
            'NO9386011117947',
            'MT84MALT011000012345MTLCAST001S',
        ],
    ),
    'us_ssn': (checks.us_ssn, ['536228726', '078051120']),
    'us_itin': (checks.us_itin, ['912701234', '900650000']),
    'uk_nhs': (checks.uk_nhs, ['9434765919', '4010232137']),
    'de_tax_id': (checks.de_tax_id, ['86095742719', '47036892816', '65929970489', '57549285017', '25768131411']),
    'fr_nir': (checks.fr_nir, ['255081416802538', '269054958815780', '253072B07300470']),
    'es_dni': (checks.es_dni, ['12345678Z', '54362315K', 'X1234567L', 'X2482300W']),
    'it_codice_fiscale': (checks.it_codice_fiscale, ['RSSMRA85T10A562S', 'MRTMTT91D08F205J', 'RCCMNL83S18D969H']),
    'nl_bsn': (checks.nl_bsn, ['111222333', '123456782']),
    'pl_pesel': (checks.pl_pesel, ['44051401458', '02070803628']),
    'be_nn': (checks.be_nn, ['85073003328', '17073003384']),
    'se_pnr': (checks.se_pnr, ['8112189876', '6408233234']),
    'no_fnr': (checks.no_fnr, ['15108695088', '15076500565']),
    'ch_ahv': (checks.ch_ahv, ['7569217076985']),
    'br_cpf': (checks.br_cpf, ['52998224725', '39053344705']),
    'in_aadhaar': (checks.in_aadhaar, ['499118665246', '234123412346']),
    'verhoeff': (checks.verhoeff, ['2363', '123451', '84736430954837284567892']),
    'ca_sin': (checks.ca_sin, ['130692544']),
    'au_tfn': (checks.au_tfn, ['123456782', '648188480']),
    'cn_rrid': (checks.cn_rrid, ['11010519491231002X', '440308199901101512']),
}
WEAK = {'us_ssn', 'us_itin'}  # they have no check digit


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_numbers_are_right(name: str) -> None:
    check, numbers = PUBLISHED[name]
    assert [number for number in numbers if not check(number)] == []


@pytest.mark.parametrize('name', sorted(set(PUBLISHED) - WEAK))
def test_a_wrong_digit_is_noticed(name: str) -> None:
    """Every one of these schemes finds nearly every single wrong digit; that is what they were made for."""
    check, numbers = PUBLISHED[name]
    tried = missed = 0
    for number in numbers:
        for at, char in enumerate(number):
            for other in '0123456789' if char.isdigit() else '':
                wrong = number[:at] + other + number[at + 1 :]
                if wrong != number and len(number) > 1:
                    tried += 1
                    missed += check(wrong)
    assert tried
    assert missed / tried < 0.04


@pytest.mark.parametrize(
    ('number', 'right'),
    [
        ('4111111111111111', True),
        ('41111111111111', False),
        ('378282246310005', True),
        ('37828224631000', False),
        ('5555555555554444', True),
        ('2221000000000009', True),
        ('2720999999999996', True),
        ('2721000000000004', False),
        ('30569309025904', True),
        ('3530111333300000', True),
        ('6304000000000000', True),
        ('676770000000', True),
        ('1234567890123452', False),
        ('9792030000000000', True),
        ('8171999927660000', True),
    ],
)
def test_a_network_has_its_prefixes_and_lengths(number: str, right: bool) -> None:
    assert (len(number) in checks.card_lengths(number)) is right


def test_a_swedish_number_may_have_its_century() -> None:
    assert checks.se_pnr('198112189876')


@pytest.mark.parametrize('number', ['000228726', '666228726', '900228726', '536008726', '536220000'])
def test_social_security_numbers_that_were_never_given_out(number: str) -> None:
    assert not checks.us_ssn(number)


@pytest.mark.parametrize('number', ['00000000000', '11111111111'])
def test_the_same_digit_all_along_is_no_number(number: str) -> None:
    assert not checks.br_cpf(number)
    assert not checks.nl_bsn(number[:9])
    assert not checks.uk_nhs(number[:10])


def test_of_random_digits_few_pass() -> None:
    """What each check lets through of digits that mean nothing: the reason why the weak ones need a word or a usual form."""
    draw = Random(1)
    numbers = [''.join(draw.choices('0123456789', k=11)) for _ in range(20_000)]

    def share(check: Callable[[str], bool], length: int) -> float:
        return sum(check(number[:length]) for number in numbers) / len(numbers)

    assert share(checks.de_tax_id, 11) < 0.006
    assert share(checks.pl_pesel, 11) < 0.012
    assert share(checks.be_nn, 11) < 0.003
    assert share(checks.no_fnr, 11) < 0.005
    assert share(checks.br_cpf, 11) < 0.013
    assert 0.08 < share(checks.nl_bsn, 9) < 0.1
