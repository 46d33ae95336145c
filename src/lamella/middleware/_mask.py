"""Takes credentials out of text that somebody will read: by the prefixes that vendors give them, and by the names before them."""

from __future__ import annotations

import re

MASK = '***'
_LONGEST = 4096
_WINDOW, _TRIES, _LONGEST_OPENING = 8192, 8, 320

_PREFIXED = re.compile(
    r"""(?<![A-Za-z0-9])(?:
        sk-[A-Za-z0-9_-]{8,}                            # OpenAI, Anthropic (sk-ant-), OpenRouter (sk-or-)
      | (?:AIza|ya29\.)[A-Za-z0-9_-]{10,}               # Google
      | gh[oprsu]_[A-Za-z0-9]{10,} | github_pat_\w{10,} # GitHub
      | (?:hf|gsk|pplx|xai|r8)[_-][A-Za-z0-9]{16,}      # Hugging Face, Groq, Perplexity, xAI, Replicate
      | xox[abeoprs]-[A-Za-z0-9-]{8,}                   # Slack
      | (?:AKIA|ASIA)[A-Z0-9]{12,}                      # AWS
      | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}[A-Za-z0-9_.-]*
    )""",
    re.VERBOSE,
)
_BEARER = re.compile(r'(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}')
_USERINFO = re.compile(r'(?<=://)[^\s/@]{1,256}@')
_VALUE = r"""(\\?"(?:[^"\\]|\\[^"])*\\?"?|'[^']*'?|[^\s,;&"'(){}\[\]\\]+)"""
_SECRET_NAME = re.compile(
    r"""(?ix)
    ( (?:api|access|private|secret|signing|encryption|client)[_-]?(?:key|secret) | passw(?:or)?d | passphrase | secret
      | token | authorization | credential | cookie )
    (s? \\?["']? \s* [:=]\s* )"""
    + _VALUE
)
_KEY_NAME = re.compile(r"""(?i)(?<![A-Za-z])(key|auth|signature|sig|session)(\\?["']?\s*[:=]\s*)""" + _VALUE)
_OPENING = re.compile(
    r"""(?ix)
    (?: (?:key|secret|passw(?:or)?d|passphrase|token|authorization|credential|cookie|auth|signature|sig|session)
        s? \\?["']? (?:\s* [:=])? | [:=] | :// \S* | \b(?:bearer|basic) ) \s* \\?["']? $"""
)
_SPACE = re.compile(r'\s+')
_NUMBER = re.compile(r'[\d.,_-]*')


def masked(text: str) -> str:
    """The text without what looks like a credential; nothing beyond its first 4,096 characters.

    Values under names such as `password` and `api_key` go whatever they are, unless they are numbers (`max_tokens=100`);
    under `key` and the like only when they are long and mixed.
    """
    return _masked(text[:_LONGEST])


def without_credentials(text: str) -> str:
    """The same for a text of any length, whole. It is looked at in pieces, so that no text takes more than linear time."""
    if len(text) <= _LONGEST:
        return _masked(text)
    pieces, start = list[str](), 0
    while start < len(text):
        window = text[start : start + _WINDOW]
        end = len(window) if start + len(window) == len(text) else _cut(window)
        pieces.append(_masked(window[:end]))
        start += end
    return ''.join(pieces)


def _cut(window: str) -> int:
    """Where a piece can end without cutting a credential in two: at a space where nothing is open, if there is one."""
    spaces = (found.end() for found in _SPACE.finditer(window, len(window) // 2))
    return next((at for at in reversed(list(spaces)[-_TRIES:]) if not is_open(window[:at])), len(window))


def is_open(text: str) -> bool:
    """Whether a credential at the end of this text may go on behind it, or begin there."""
    tail = text[-_LONGEST:].rstrip()
    if _OPENING.search(tail[-_LONGEST_OPENING:]):
        return True
    patterns = (_BEARER, _PREFIXED, _SECRET_NAME, _KEY_NAME)
    return any(found.end() == len(tail) for pattern in patterns for found in pattern.finditer(tail))


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a credential whatever it is, as in `masked`."""
    return _SECRET_NAME.search(f'{name}=x') is not None


def is_secret_value(name: str, value: str) -> bool:
    """Whether this text under this name is one: under `key` and the like only when it is long and mixed."""
    return is_secret_name(name) or (_KEY_NAME.search(f'{name}=x') is not None and _is_random(value))


def _masked(text: str) -> str:
    text = _BEARER.sub(rf'\1 {MASK}', text)
    text = _PREFIXED.sub(MASK, text)
    text = _USERINFO.sub(f'{MASK}@', text)
    text = _SECRET_NAME.sub(_without_value, text)
    return _KEY_NAME.sub(_without_long_value, text)


def _without_value(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    if _NUMBER.fullmatch(value.strip('"\'\\')) or value in ('null', 'None', 'true', 'false'):
        return found[0]
    return f'{name}{between}{MASK}'


def _without_long_value(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    return f'{name}{between}{MASK}' if _is_random(value.strip('"\'\\')) else found[0]


def _is_random(value: str) -> bool:
    """Long, without spaces, with letters and digits, and of many different characters: no word of a language."""
    if len(value) < 16 or any(c.isspace() for c in value):
        return False
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value) and len(set(value)) >= 8
