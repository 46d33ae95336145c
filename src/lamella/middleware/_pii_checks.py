"""Check digits: the arithmetic by which cards, accounts and national numbers tell themselves from other digits.

Every function takes what its name says, without separators, and says whether it is valid. Only shapes that the recogniser has
made sure of arrive here.
"""

from __future__ import annotations

from collections.abc import Sequence

_IBAN_LENGTHS = (
    'AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 '
    'FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 '
    'LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 '
    'RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30'
)
# The length of an IBAN by its country (SWIFT, IBAN Registry).
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}

# Verhoeff, "Error Detecting Decimal Codes" (1969): the dihedral group D5, and the powers of its permutation.
_D5 = [[(i + j) % 5 if j < 5 else 5 + (i + j) % 5 for j in range(10)] for i in range(5)]
_D5 += [[5 + (i - j) % 5 if j < 5 else (i - j) % 5 for j in range(10)] for i in range(5, 10)]
_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_CODICE_ODD = {
    **dict(zip('0123456789', (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)),
    **dict(
        zip(
            'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
            (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
            strict=True,
        )
    ),
}


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = sum(map(int, digits[-1::-2]))
    return (total + sum(int(d) * 2 - 9 * (d > '4') for d in digits[-2::-2])) % 10 == 0


def card_lengths(digits: str) -> range:
    """How many digits a card may have that begins with these (four at least): none when no network gives such numbers out
    (ISO/IEC 7812, and the ranges that the networks publish)."""
    two, three, four = int(digits[:2]), int(digits[:3]), int(digits[:4])
    if digits[0] == '4':  # Visa
        return range(13, 20, 3)
    if 51 <= two <= 55 or 2221 <= four <= 2720:  # Mastercard
        return range(16, 17)
    if two in (34, 37):  # American Express
        return range(15, 16)
    if two in (36, 38, 39) or 300 <= three <= 305 or four == 3095:  # Diners Club
        return range(14, 20)
    if (
        3528 <= four <= 3589 or 2200 <= four <= 2205 or two in (81, 82) or four == 9792
    ):  # JCB, Mir, UnionPay, RuPay, Troy
        return range(16, 20)
    return range(12, 20) if two == 50 or 56 <= two <= 69 else range(0)  # Maestro, Discover, UnionPay, RuPay, Verve


def iban(code: str) -> bool:
    """ISO 13616: a length that fits the country, and remainder 1 by 97 (ISO/IEC 7064)."""
    if IBAN_LENGTHS.get(code[:2]) != len(code):
        return False
    return int(''.join([str(int(c, 36)) for c in code[4:] + code[:4]])) % 97 == 1


def us_ssn(digits: str) -> bool:
    """ssa.gov/employer/randomization.html: no area 000, 666 or above 899, no group 00, no serial 0000."""
    return digits[0] != '9' and digits[:3] not in ('000', '666') and digits[3:5] != '00' and digits[5:] != '0000'


def us_itin(digits: str) -> bool:
    """IRM 3.21.263: begins with 9; the group is in 50–65, 70–88, 90–92 or 94–99."""
    group = int(digits[3:5])
    return digits[0] == '9' and (50 <= group <= 65 or 70 <= group <= 99) and group not in (89, 93)


def uk_nino(code: str) -> bool:
    """HMRC, National Insurance Manual NIM39110: prefixes that are not given out. The letters are the recogniser's."""
    return code[:2] not in ('BG', 'GB', 'KN', 'NK', 'NT', 'TN', 'ZZ')


def uk_nhs(digits: str) -> bool:
    """NHS Data Dictionary, "NHS NUMBER": modulus 11, weights 10 to 2."""
    check = 11 - _weighted(digits, range(10, 1, -1)) % 11
    return check != 10 and check % 11 == int(digits[9]) and len(set(digits)) > 1


def de_tax_id(digits: str) -> bool:
    """§ 139b AO: no leading zero; of the first ten digits exactly one stands there twice or three times (three not in a row);
    ISO/IEC 7064, MOD 11,10."""
    counts = sorted(digits[:10].count(d) for d in set(digits[:10]))
    if digits[0] == '0' or counts[-1] not in (2, 3) or counts[-2] > 1:
        return False
    if any(d * 3 in digits[:10] for d in set(digits)):
        return False
    product = 10
    for d in digits[:10]:
        product = ((int(d) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def fr_nir(code: str) -> bool:
    """INSEE, "Numéro d'inscription au répertoire": 97 less the remainder; Corsica's 2A counts as 19, 2B as 18."""
    number = code[:13].replace('2A', '19', 1) if code[5:7] == '2A' else code[:13]
    number = number.replace('2B', '18', 1) if code[5:7] == '2B' else number
    return number.isdigit() and 97 - int(number) % 97 == int(code[13:])


def es_dni(code: str) -> bool:
    """Ministerio del Interior, "Cálculo del dígito de control del NIF/NIE"; a foreigner's first letter X, Y, Z is 0, 1, 2."""
    number = code[:-1].translate({ord('X'): '0', ord('Y'): '1', ord('Z'): '2'})
    return 'TRWAGMYFPDXBNJZSQVHLCKE'[int(number) % 23] == code[-1]


def it_codice_fiscale(code: str) -> bool:
    """D.M. 23 December 1976, n. 13813: odd and even places by two tables, modulus 26."""
    odd = sum(_CODICE_ODD[c] for c in code[0:15:2])
    even = sum(int(c, 36) - (0 if c.isdigit() else 10) for c in code[1:15:2])
    return chr(ord('A') + (odd + even) % 26) == code[15]


def nl_bsn(digits: str) -> bool:
    """The "elfproef" of the burgerservicenummer: weights 9 to 2, and -1 for the last digit."""
    return len(set(digits)) > 1 and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pl_pesel(digits: str) -> bool:
    """gov.pl, "Czym jest numer PESEL": 20 is added to the month from the year 2000 on; weights 1, 3, 7, 9."""
    if int(digits[2:4]) > 32 or not _is_date(int(digits[2:4]) % 20, int(digits[4:6])):
        return False
    return (10 - _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == int(digits[10])


def be_nn(digits: str) -> bool:
    """Rijksregister: 97 less the remainder of the first nine digits, with a 2 in front for those born after 1999."""
    if not _is_date(int(digits[2:4]), int(digits[4:6])):
        return False
    return any(97 - int(century + digits[:9]) % 97 == int(digits[9:]) for century in ('', '2'))


def se_pnr(digits: str) -> bool:
    """Skatteverket, "Personnummer": the Luhn digit over the last ten; a co-ordination number has 60 added to its day."""
    short = digits[-10:]
    return _is_date(int(short[2:4]), int(short[4:6]) % 60) and luhn(short)


def no_fnr(digits: str) -> bool:
    """Skatteetaten, "Fødselsnummer": two check digits by modulus 11; a D-number has 40 added to its day."""
    if not _is_date(int(digits[2:4]) % 40, int(digits[:2]) % 40):
        return False
    first = _weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    return first == 0 and _weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def ch_ahv(digits: str) -> bool:
    """ZAS, AHV-Nummer: 756, then an EAN-13."""
    return digits[:3] == '756' and _weighted(digits, (1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1)) % 10 == 0


def br_cpf(digits: str) -> bool:
    """Receita Federal: two check digits by modulus 11, weights 10 and 11 downwards."""
    if len(set(digits)) == 1:
        return False
    first = _weighted(digits, range(10, 1, -1)) * 10 % 11 % 10
    return first == int(digits[9]) and _weighted(digits, range(11, 1, -1)) * 10 % 11 % 10 == int(digits[10])


def in_aadhaar(digits: str) -> bool:
    """UIDAI, "Aadhaar Number: design": begins with 2 to 9, not a palindrome; the check digit is Verhoeff's."""
    return digits[0] > '1' and digits != digits[::-1] and verhoeff(digits)


def verhoeff(digits: str) -> bool:
    """Verhoeff, "Error Detecting Decimal Codes" (1969)."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        turned = int(digit)
        for _ in range(place % 8):
            turned = _TURN[turned]
        check = _D5[check][turned]
    return check == 0


def ca_sin(digits: str) -> bool:
    """Service Canada, "Social Insurance Number": the Luhn digit; 0 and 8 begin none."""
    return digits[0] not in '08' and luhn(digits)


def au_tfn(digits: str) -> bool:
    """Australian Taxation Office: weights 1, 4, 3, 7, 5, 8, 6, 9, 10, modulus 11."""
    return len(set(digits)) > 1 and _weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def cn_rrid(code: str) -> bool:
    """GB 11643-1999: a date of birth, and ISO/IEC 7064, MOD 11-2 (X is ten)."""
    if code[6:8] not in ('19', '20') or not _is_date(int(code[10:12]), int(code[12:14])):
        return False
    total = sum(int(d) * (2**place % 11) for place, d in zip(range(17, 0, -1), code, strict=False))
    return '10X98765432'[total % 11] == code[17]


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(d) * weight for d, weight in zip(digits, weights, strict=False))


def _is_date(month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= 31
