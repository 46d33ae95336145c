"""What one call has taken of a rate limit: buckets to take from, and to settle when it is known what was used."""

from __future__ import annotations

import math
from typing import Any, Protocol

from lamella.core.ports import Bucket, Store
from lamella.middleware._keys import shown


class Limits(Protocol):
    """The settings of a rate limit."""

    @property
    def max_calls(self) -> int | None: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def per_s(self) -> float: ...
    @property
    def burst(self) -> int | None: ...
    @property
    def pause_on_429(self) -> bool: ...
    @property
    def max_queue(self) -> int: ...
    @property
    def max_wait_s(self) -> float | None: ...


class Permit:
    """One call's. `asked` is the estimate of the tokens that it sends, `sent` the run's count of requests before it.

    `pause` is a bucket of seconds that is empty while the key is closed; every call takes nothing of it.
    """

    __slots__ = ('asked', 'calls', 'is_settled', 'key', 'pause', 'sent', 'store', 'tokens', 'waited_s')

    def __init__(self, key: str, store: Store, sent: int) -> None:
        self.key, self.store, self.sent = key, store, sent
        self.calls: Bucket | None = None
        self.tokens: Bucket | None = None
        self.pause: Bucket | None = None
        self.asked, self.waited_s, self.is_settled = 0, 0.0, False

    def need(self, limits: Limits, prefix: str, tokens: int) -> None:
        """One call, and so many tokens, of the buckets whose keys begin with `prefix`."""
        if limits.max_calls is not None:
            burst = limits.max_calls if limits.burst is None else limits.burst
            self.calls = Bucket(f'{prefix}:calls', limits.max_calls / limits.per_s, burst)
        if limits.max_tokens is not None:
            self.tokens = Bucket(f'{prefix}:tokens', limits.max_tokens / limits.per_s, limits.max_tokens, tokens)
        if limits.pause_on_429:
            self.pause = Bucket(f'{prefix}:pause', 1.0, 1.0, 0.0)

    @property
    def buckets(self) -> list[Bucket]:
        return [bucket for bucket in (self.calls, self.tokens) if bucket is not None]

    def unused(self) -> list[Bucket]:
        """All of it, to be given back."""
        return [bucket.replace(amount=-bucket.amount) for bucket in self.buckets]

    def corrections(self, used: int) -> list[Bucket]:
        """The tokens that were taken too much or too little, when `used` were used."""
        if self.tokens is None or used == self.tokens.amount:
            return []
        return [self.tokens.replace(amount=used - self.tokens.amount)]

    def note(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """What the answer says of its wait, with the wait of another such layer inside of this one."""
        if not self.waited_s:
            return {}
        inner = metadata.get('rate_limit')
        return {'rate_limit': {'waited_s': self.waited_s + (inner['waited_s'] if inner else 0.0)}}


def sentence(config: Limits, permit: Permit, reason: str, wait_s: float) -> str:
    """Why a call is refused, and when another one would not be."""
    set_limits = {'max_calls': config.max_calls, 'max_tokens': config.max_tokens}
    limit = ' and '.join([f'{name}={value}' for name, value in set_limits.items() if value is not None])
    limit += f' in {config.per_s:g} s' + (f' for {shown(permit.key)}' if permit.key else '')
    if reason == 'too_large' and permit.tokens is not None:
        parts = f'{permit.asked} to read, {permit.tokens.amount - permit.asked:g} for max_output_tokens'
        return (
            f'the call needs about {permit.tokens.amount:g} tokens ({parts}), more than {limit} ever gives: shorten it, '
            'lower max_output_tokens or raise max_tokens'
        )
    wait = 'nothing will ever be free' if math.isinf(wait_s) else f'the next turn is in {wait_s:.3g} s at the earliest'
    ends = {
        'limit': f'over {limit}: {wait}',
        'queue': f'{config.max_queue} calls wait for {limit} already (max_queue): {wait}',
        'deadline': f'over {limit}: {wait}, which is past the deadline',
        'max_wait': f'over {limit}: {wait}, longer than max_wait_s={config.max_wait_s}',
    }
    return ends[reason]
