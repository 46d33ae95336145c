"""A labelled sample of texts with personal data and of texts without, made anew in the same way each time.

Values are made by the rules of each entity (with the check functions, which tests hold to published numbers). One in sixty is
written in a way that is known to be hard; they count like the others. Negatives are what numbers in texts mostly are:
orders, dates, versions, prices, hashes, ids of machines, and numbers that fail their check digit.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from lamella.middleware import _pii_checks as checks
from lamella.middleware._pii import ENTITIES, Recognisers
from lamella.middleware._pii_ids import NATIONAL_IDS

PHONES = {
    'US': [
        '+1 {a}-{b}-{c}',
        '({a}) {b}-{c}',
        '{a}-{b}-{c}',
        '{a}.{b}.{c}',
        '+1{a}{b}{c}',
        '1-{a}-{b}-{c}',
        '{a} {b} {c}',
    ],
}
SENTENCES = (
    'Please contact me: {}.',
    'Meine Angaben lauten {} (bitte vertraulich).',
    'He wrote "{}" on the form',
    'value={}; next',
    'Voici mes coordonnées : {}, merci',
    '{}',
    'first line\n{}\nlast line',
    'We have it as {} since Monday, he said.',
    '| name | {} | yes |',
    'それは {} です。',
)


class Labelled(NamedTuple):
    """A text, the value in it and its entity; a negative has none."""

    text: str
    value: str = ''
    entity: str = ''
    hard: bool = False


def until(make: Callable[[], str], check: Callable[[str], bool]) -> str:
    """The first made value that passes."""
    while not check(value := make()):
        pass
    return value


def digits(draw: Random, count: int, first: str = '0123456789') -> str:
    return draw.choice(first) + ''.join(draw.choices('0123456789', k=count - 1))


def letters(draw: Random, count: int, among: str = 'ABCDEFGHJKLMNPRSTUVWXYZ') -> str:
    return ''.join(draw.choices(among, k=count))


def parted(value: str, groups: tuple[int, ...], between: str) -> str:
    """The value in groups; `between` is one separator for all, or one for each."""
    pieces, at = list[str](), 0
    for size in groups:
        pieces.append(value[at : at + size])
        at += size
    pieces = [piece for piece in (*pieces, value[at:]) if piece]
    marks = between if len(between) == len(pieces) - 1 else between * (len(pieces) - 1)
    return ''.join(piece + mark for piece, mark in zip(pieces, [*marks, ''], strict=True))


def with_check(draw: Random, body: str, check: Callable[[str], bool], last: str = '0123456789', count: int = 1) -> str:
    """The body with the last characters that make it right, by trying them all."""
    wanted = [body + end for end in _endings(last, count) if check(body + end)]
    return draw.choice(wanted) if wanted else ''


def _endings(among: str, count: int) -> Iterator[str]:
    if not count:
        yield ''
        return
    for end in _endings(among, count - 1):
        for char in among:
            yield end + char


def email(draw: Random) -> tuple[str, bool]:
    first, last = (
        draw.choice(['anna', 'josé', 'li.wei', 'o.brien', 'max_m', 'x']),
        draw.choice(['smith', 'mueller', 'k', '77']),
    )
    domain = draw.choice(
        ['example.com', 'mail.example.co.uk', 'firma-gmbh.de', 'exämple.fr', 'sub.a.b.org', 'xn--bcher-kva.ch']
    )
    if draw.random() < 0.08:
        return draw.choice([f'"{first} {last}"@{domain}', f'{first} at {domain}', f'{first}@localhost']), True
    return draw.choice(
        [
            f'{first}.{last}@{domain}',
            f'{first}+news@{domain}',
            f'{first}{last}@{domain.upper()}',
            f"{first}'{last}@{domain}",
        ]
    ), False


def phone(draw: Random) -> tuple[str, bool]:
    area = draw.choice(['212', '415', '305', '617', '702', '206'])
    exchange, line = digits(draw, 3, '23456789'), digits(draw, 4)
    if exchange[1:] == '11':
        exchange = '555'
    kind = draw.random()
    if kind < 0.1:
        return f'{area}{exchange}{line}', True  # in one piece, and nothing says that it is a telephone
    if kind < 0.4:
        body = digits(draw, 7, '123456789')
        return draw.choice(
            [
                f'+49 30 {body}',
                f'+44 20 7946 {body[:4]}',
                f'+33 6 {parted("12" + body[:6], (2, 2, 2), " ")}',
                f'+91 98765 {body[:5]}',
                f'+81 3-{body[:4]}-{digits(draw, 4)}',
            ]
        ), False
    return draw.choice(PHONES['US']).format(a=area, b=exchange, c=line), False


def card(draw: Random) -> tuple[str, bool]:
    prefix, length = draw.choice(
        [
            ('4', 16),
            ('4', 13),
            ('4', 19),
            ('51', 16),
            ('2221', 16),
            ('55', 16),
            ('34', 15),
            ('37', 15),
            ('36', 14),
            ('6011', 16),
            ('62', 17),
            ('3528', 16),
            ('6304', 12),
            ('50', 18),
            ('6759', 16),
        ]
    )
    number = with_check(draw, prefix + digits(draw, length - len(prefix) - 1), checks.luhn)
    kind = draw.random()
    if kind < 0.05:
        return parted(number, (5, 5, 2), ' '), True
    if kind < 0.5:
        return number, False
    if kind < 0.55:
        return ' '.join(number), False
    groups = (4, 6) if length == 15 else (4, 4, 4, 4)
    return parted(number, groups, draw.choice([' ', '-', '\u00a0'])), False


def iban(draw: Random) -> tuple[str, bool]:
    country = draw.choice(sorted(checks.IBAN_LENGTHS))
    length = checks.IBAN_LENGTHS[country]
    bank = letters(draw, 4) if country in ('GB', 'NL', 'IE', 'MT', 'RO') else digits(draw, 4)
    body = bank + digits(draw, length - 8)
    value = next(code for check in range(2, 100) if checks.iban(code := f'{country}{check:02d}{body}'))
    kind = draw.random()
    if kind < 0.05:
        return f'{value[:2]} {value[2:]}', True
    return (value if kind < 0.5 else parted(value, (4,) * (length // 4), ' ') if kind < 0.9 else value.lower()), False


def ip(draw: Random) -> tuple[str, bool]:
    if draw.random() < 0.6:
        return '.'.join(str(draw.randint(low, high)) for low, high in ((128, 223), (0, 255), (0, 255), (1, 254))), False
    groups = [f'{draw.randint(0, 0xFFFF):x}' for _ in range(8)]
    short = f'2001:db8::{groups[0]}:{draw.randint(1, 9)}'
    return draw.choice([':'.join(groups), short, f'fe80::{draw.randint(1, 99)}:{groups[1]}:{groups[2]}']), False


def api_key(draw: Random) -> tuple[str, bool]:
    body = ''.join(draw.choices('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789', k=64))
    capital = ''.join(draw.choices('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', k=16))
    kind = draw.random()
    if kind < 0.08:
        return draw.choice([body[:40], f'token_{body[:24]}']), True  # nothing tells it from any other text
    return draw.choice(
        [
            f'sk-{body[:48]}',
            f'sk-proj-{body}_{body}',
            f'sk-ant-api03-{body}-{body[:20]}',
            f'AIza{body[:35]}',
            f'AKIA{capital}',
            f'ghp_{body[:36]}',
            f'github_pat_{body[:22]}_{body[:59]}',
            f'xoxb-{digits(draw, 11)}-{body[:24]}',
            f'sk_live_{body[:24]}',
            f'hf_{body[:34]}',
            f'npm_{body[:36]}',
            f'glpat-{body[:20]}',
            f'SG.{body[:22]}.{body[:43]}',
            f'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOi{body[:30]}.{body[:43]}',
            f'gsk_{body[:52]}',
            f'shpat_{body.encode().hex()[:32]}',
        ]
    ), False


def private_key(draw: Random) -> tuple[str, bool]:
    kind = draw.choice(['RSA ', 'EC ', '', 'OPENSSH ', 'ENCRYPTED '])
    lines = [
        ''.join(draw.choices('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', k=64))
        for _ in range(draw.randint(2, 40))
    ]
    return '\n'.join([f'-----BEGIN {kind}PRIVATE KEY-----', *lines, f'-----END {kind}PRIVATE KEY-----']), False


def national_id(draw: Random, entity: str) -> tuple[str, bool]:
    bare = draw.random() < 0.4
    year, month, day = f'{draw.randint(40, 99):02d}', f'{draw.randint(1, 12):02d}', f'{draw.randint(1, 28):02d}'
    if entity in ('us_ssn', 'us_itin'):
        start = '9' if entity == 'us_itin' else '12345678'
        check = checks.us_itin if entity == 'us_itin' else checks.us_ssn
        value = until(lambda: digits(draw, 9, start), check)
        return (parted(value, (3, 2), draw.choice('- ')), False) if draw.random() < 0.9 else (value, True)
    if entity == 'uk_nino':
        value = until(
            lambda: letters(draw, 2, 'ABCEGHJKLMNPRSTWXYZ') + digits(draw, 6) + letters(draw, 1, 'ABCD'), checks.uk_nino
        )
        return (value if bare else parted(value, (2, 2, 2, 2), ' ')), False
    if entity in ('es_dni', 'es_nie'):
        value = with_check(
            draw,
            digits(draw, 8) if entity == 'es_dni' else draw.choice('XYZ') + digits(draw, 7),
            checks.es_dni,
            'TRWAGMYFPDXBNJZSQVHLCKE',
        )
        return (value if bare else f'{value[:-1]}-{value[-1]}'), False
    if entity == 'it_codice_fiscale':
        body = letters(draw, 6) + year + draw.choice('ABCDEHLMPRST') + day + 'H' + digits(draw, 3)
        value = with_check(draw, body, checks.it_codice_fiscale, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ')
        return (value if bare else value.lower()), False
    if entity == 'fr_nir':
        body = f'{draw.choice("12")}{year}{month}{draw.randint(1, 95):02d}{digits(draw, 6)}'
        value = with_check(draw, body, checks.fr_nir, count=2)
        return (value if bare else parted(value, (1, 2, 2, 2, 3, 3), ' ')), False
    if entity == 'cn_rrid':
        return with_check(
            draw, f'{digits(draw, 6, "123456")}19{year}{month}{day}{digits(draw, 3)}', checks.cn_rrid, '0123456789X'
        ), False
    value, groups, between, name = _digit_id(draw, entity, year, month, day)
    if not groups:
        return value, False
    if bare and name:
        return f'{name}: {value}', False
    return parted(value, groups, between), False


def _digit_id(draw: Random, entity: str, year: str, month: str, day: str) -> tuple[str, tuple[int, ...], str, str]:
    """The number, its groups, what stands between them, and a word that names it."""
    if entity == 'uk_nhs':
        return until(lambda: digits(draw, 10, '4679'), checks.uk_nhs), (3, 3), ' ', 'NHS number'
    if entity == 'de_tax_id':
        pool = list('0123456789')

        def made() -> str:
            draw.shuffle(pool)
            body = [*pool[:9], draw.choice(pool[:9])]
            draw.shuffle(body)
            return with_check(draw, ''.join(body), checks.de_tax_id)

        return until(made, bool), (2, 3, 3), ' ', 'Steuer-ID'
    if entity == 'nl_bsn':
        return until(lambda: digits(draw, 9), checks.nl_bsn), (4, 2), '.', 'BSN'
    if entity == 'pl_pesel':
        return with_check(draw, year + month + day + digits(draw, 4), checks.pl_pesel), (), '', 'PESEL'
    if entity == 'be_nn':
        return (
            with_check(draw, year + month + day + digits(draw, 3), checks.be_nn, count=2),
            (2, 2, 2, 3),
            '..-.',
            'Rijksregisternummer',
        )
    if entity == 'se_pnr':
        return with_check(draw, year + month + day + digits(draw, 3), checks.se_pnr), (6,), '-', 'personnummer'
    if entity == 'no_fnr':
        return (
            until(lambda: with_check(draw, day + month + year + digits(draw, 3), checks.no_fnr, count=2), bool),
            (6,),
            ' ',
            'fødselsnummer',
        )
    if entity == 'ch_ahv':
        return with_check(draw, '756' + digits(draw, 9), checks.ch_ahv), (3, 4, 4), '.', 'AHV'
    if entity == 'br_cpf':
        return with_check(draw, digits(draw, 9), checks.br_cpf, count=2), (3, 3, 3), '..-', 'CPF'
    if entity == 'in_aadhaar':
        return with_check(draw, digits(draw, 11, '23456789'), checks.in_aadhaar), (4, 4), ' ', 'Aadhaar'
    if entity == 'ca_sin':
        return with_check(draw, digits(draw, 8, '12345679'), checks.ca_sin), (3, 3), draw.choice(' -'), 'SIN'
    value = until(lambda: digits(draw, 9), checks.au_tfn)
    return f'TFN {value}', (), '', ''


def two(draw: Random, most: int) -> str:
    return f'{draw.randint(1, most):02d}'


ELEVEN = (checks.de_tax_id, checks.br_cpf, checks.pl_pesel, checks.be_nn, checks.no_fnr)
NEGATIVES: dict[str, Callable[[Random], str]] = {
    'order number': lambda draw: f'Order {digits(draw, draw.randint(6, 14), "123456789")} was shipped.',
    'invoice': lambda draw: f'invoice INV-{digits(draw, 4)}-{digits(draw, 6)}',
    'version': lambda draw: (
        f'version {draw.randint(1, 20)}.{draw.randint(0, 40)}.{draw.randint(0, 99)}.{draw.randint(0, 250)}'
    ),
    'semver': lambda draw: (
        f'v{draw.randint(0, 9)}.{draw.randint(0, 99)}.{draw.randint(0, 99)}-beta.{draw.randint(1, 9)}'
    ),
    'date': lambda draw: f'{draw.randint(1990, 2030)}-{two(draw, 12)}-{two(draw, 28)} {two(draw, 23)}:{two(draw, 59)}',
    'european date': lambda draw: (
        f'am {two(draw, 28)}.{two(draw, 12)}.{draw.randint(1990, 2030)} um {two(draw, 23)}:15'
    ),
    'time stamp': lambda draw: f'ts={draw.randint(1_500_000_000_000, 1_900_000_000_000)}',
    'uuid': lambda draw: '-'.join(
        f'{draw.getrandbits(128):032x}'[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    ),
    'hash': lambda draw: f'commit {draw.getrandbits(160):040x}',
    'short hash': lambda draw: f'sha {draw.getrandbits(64):016x}',
    'price': lambda draw: (
        f'${draw.randint(1, 999)},{draw.randint(100, 999)},{draw.randint(100, 999)}.{draw.randint(10, 99)}'
    ),
    'european price': lambda draw: f'{draw.randint(1, 999)}.{draw.randint(100, 999)},{draw.randint(10, 99)} €',
    'failing card': lambda draw: (
        f'number {until(lambda: digits(draw, 16, "456"), lambda number: not checks.luhn(number))} here'
    ),
    'failing iban': lambda draw: f'IBAN {until(lambda: "DE" + digits(draw, 20), lambda code: not checks.iban(code))}',
    'failing tax id': lambda draw: until(
        lambda: digits(draw, 11, '123456789'), lambda number: not any(c(number) for c in ELEVEN)
    ),
    'decimal': lambda draw: f'pi is 3.{digits(draw, 16)} or so',
    'coordinates': lambda draw: f'({draw.uniform(-90, 90):.7f}, {draw.uniform(-180, 180):.7f})',
    'isbn': lambda draw: f'ISBN 978-{draw.randint(0, 9)}-{digits(draw, 2)}-{digits(draw, 6)}-{draw.randint(0, 9)}',
    'table': lambda draw: ' '.join(str(draw.randint(1, 99)) for _ in range(12)),
    'mac address': lambda draw: ':'.join(f'{draw.randint(0, 255):02x}' for _ in range(6)),
    'clock': lambda draw: f'from {draw.randint(0, 23):02d}:{draw.randint(0, 59):02d}:{draw.randint(0, 59):02d} on',
    'code': lambda draw: draw.choice(
        [
            'std::vector<int> a; x = foo::bar(1);',
            '@property\ndef f(self): return a @ b',
            'import numpy as np  # noqa: E501',
            'a[1:2], b[::3]',
        ]
    ),
    'picture': lambda draw: f'logo@{draw.randint(2, 4)}x.png and @user on the net',
    'package': lambda draw: f'npm i @scope/pkg@{draw.randint(1, 20)}.{draw.randint(0, 9)}.{draw.randint(0, 9)}',
    'like a key': lambda draw: draw.choice(
        [
            'class="sk-circle-fade-dot-animation"',
            'the task-force-risk-assessment',
            'sk-learn is a library',
            'AKIA is a prefix',
            'key-value store',
        ]
    ),
    'public key': lambda draw: f'-----BEGIN PUBLIC KEY-----\n{draw.getrandbits(300):x}\n-----END PUBLIC KEY-----',
    'part number': lambda draw: f'part {letters(draw, 3)}-{digits(draw, 4)}-{letters(draw, 1)}{digits(draw, 2)}',
    'numbers in prose': lambda draw: (
        f'In {draw.randint(1900, 2026)} some {draw.randint(2, 900)} of {draw.randint(1000, 99999)} people lived there.'
    ),
    'loopback': lambda draw: draw.choice(['http://127.0.0.1:8080/', 'bind to 0.0.0.0 or ::1']),
    'tracking': lambda draw: f'1Z{digits(draw, 3)}{letters(draw, 2)}{digits(draw, 10)}',
}
MAKERS: dict[str, Callable[[Random], tuple[str, bool]]] = {
    'email': email,
    'phone': phone,
    'card': card,
    'iban': iban,
    'ip': ip,
    'api_key': api_key,
    'private_key': private_key,
    **{entity: (lambda draw, entity=entity: national_id(draw, entity)) for entity in NATIONAL_IDS},
}


def sample(each: int = 60, seed: int = 20_260_101) -> list[Labelled]:
    """`each` texts for every entity, and as many for every kind of negative."""
    draw, texts = Random(seed), list[Labelled]()
    for entity, make in MAKERS.items():
        for _ in range(each):
            value, hard = make(draw)
            texts.append(Labelled(draw.choice(SENTENCES).format(value), value, entity, hard))
    for kind, write in NEGATIVES.items():
        texts += [Labelled(write(draw), entity='', value=kind) for _ in range(each)]
    return texts


class Score(NamedTuple):
    """`found` of `there` values were hidden whole, `known` of them without the hard ones; `wrong` matches hid something else."""

    there: int = 0
    found: int = 0
    easy: int = 0
    easy_found: int = 0
    wrong: int = 0

    @property
    def recall(self) -> float:
        return self.found / self.there if self.there else 1.0

    @property
    def easy_recall(self) -> float:
        return self.easy_found / self.easy if self.easy else 1.0

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.wrong) if self.found + self.wrong else 1.0


def score(texts: list[Labelled], recognisers: Recognisers | None = None) -> dict[str, Score]:
    """The score of each entity, and of everything under the name `all`. A false match counts for the entity it was taken for."""
    recognisers = recognisers or Recognisers(ENTITIES, {}, ('US',))
    scores = {entity: Score() for entity in MAKERS}
    for one in texts:
        at, start = 0, one.text.find(one.value) if one.entity else -1
        hidden = 0
        for piece in recognisers.pieces(one.text):
            end = at + len(piece.text)
            overlap = min(end, start + len(one.value)) - max(at, start) if one.entity else 0
            if piece.entity and overlap > 0:
                hidden += overlap
            elif piece.entity:
                taken = scores[piece.entity]
                scores[piece.entity] = taken._replace(wrong=taken.wrong + 1)
            at = end
        if one.entity:
            mine, whole = scores[one.entity], hidden >= len(one.value.strip()) - _named(one.value)
            scores[one.entity] = mine._replace(
                there=mine.there + 1,
                found=mine.found + whole,
                easy=mine.easy + (not one.hard),
                easy_found=mine.easy_found + (whole and not one.hard),
            )
    total = Score(*map(sum, zip(*scores.values(), strict=True)))
    return {**scores, 'all': total}


def _named(value: str) -> int:
    """How much of a value is the word that names it, which need not be hidden."""
    name, colon, _ = value.rpartition(': ')
    return len(name + colon) if colon else len('TFN ') if value.startswith('TFN ') else 0
