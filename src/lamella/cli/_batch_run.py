"""Carrying out a batch: so many lines at once, each answered once, each with its result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from lamella.cli._batch_file import Line, Results
from lamella.cli._values import plain
from lamella.engine.app import Lamella
from lamella.types import LamellaError, Message, Usage, add_usage, did_you_mean

KNOWN = ('id', 'prompt', 'messages', 'model', 'system', 'config', 'output_schema', 'provider_options')


class Tally:
    """How it goes: of this run, and of what the output had before."""

    def __init__(self, results: Results) -> None:
        self.earlier = results.earlier
        self.answered = self.failed = self.skipped = self.running = 0
        self.usage: Usage | None = None

    @property
    def done(self) -> int:
        return self.answered + self.failed + self.skipped

    @property
    def cost_usd(self) -> float | None:
        """Of this run and those before; `None` when nobody said."""
        mine = self.usage.cost_usd if self.usage is not None else None
        return None if mine is None and not self.earlier.cost_usd else (mine or 0.0) + self.earlier.cost_usd


class Batch:
    """Lines through an app. `defaults` are keywords of `generate` for lines that say nothing else."""

    def __init__(self, app: Lamella, results: Results, defaults: dict[str, Any], concurrency: int) -> None:
        self._app, self._results, self._defaults, self._concurrency = app, results, defaults, concurrency
        self.tally = Tally(results)

    async def run(self, lines: Iterator[Line], update: Callable[[Tally], None]) -> Tally:
        """Until every line has its result. When it is cancelled, what is under way is cancelled and has none."""
        running: set[asyncio.Task[None]] = set()
        try:
            for line in lines:
                if self._results.is_done(line):
                    self.tally.skipped += 1
                    continue
                while len(running) >= self._concurrency:
                    running = await self._some(running)
                    update(self.tally)
                running.add(asyncio.create_task(self._one(line)))
                self.tally.running = len(running)
            while running:
                running = await self._some(running)
                update(self.tally)
            return self.tally
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _some(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        done, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        self.tally.running = len(left)
        return left

    async def _one(self, line: Line) -> None:
        try:
            asked = self._asked(line)
        except ValueError as error:
            self._failed(line, {}, {'status': 'INVALID_ARGUMENT', 'message': str(error)})
            return
        about = {'id': asked.pop('id')} if 'id' in asked else {}
        try:
            response = await self._app.generate(**{**self._defaults, **asked})
        except LamellaError as error:
            usage = error.partial.usage if error.partial is not None else None
            self._failed(
                line, about, {'status': error.status, 'message': error.message, 'attempts': len(error.attempts)}, usage
            )
            return
        except Exception as error:  # one line's bug must not end the others
            self._failed(line, about, {'status': 'UNKNOWN', 'message': f'{type(error).__name__}: {error}'})
            return
        told = {'text': response.text, 'model': response.model, 'finish_reason': response.finish_reason}
        if response.output is not None:
            told['output'] = plain(response.output)
        if response.stop_reason != 'final':
            told['stop_reason'] = response.stop_reason
        self.tally.answered += 1
        self._add(line, {**about, 'ok': True, **told}, response.usage)

    def _failed(self, line: Line, about: dict[str, Any], error: dict[str, Any], usage: Usage | None = None) -> None:
        self.tally.failed += 1
        self._add(line, {**about, 'ok': False, 'error': error}, usage)

    def _add(self, line: Line, result: dict[str, Any], usage: Usage | None) -> None:
        if usage is not None:
            self.tally.usage = add_usage(self.tally.usage, usage)
            result['usage'] = msgspec.to_builtins(usage)
        self._results.add(line, result)

    def _asked(self, line: Line) -> dict[str, Any]:
        """The keywords of `generate` for a line. Raises ValueError with what is wrong with it."""
        try:
            given = json.loads(line.text)
        except (ValueError, RecursionError):
            given = line.text.decode('utf-8', 'replace')
            if given[:1] in '{["':
                raise ValueError('the line is no JSON') from None
        if isinstance(given, str):
            return {'prompt': given}
        if not isinstance(given, dict):
            raise ValueError(f'the line is a {type(given).__name__}: give a text or an object with prompt or messages')
        for key in given:
            if key not in KNOWN:
                raise ValueError(f'unknown key {key!r}{did_you_mean(key, KNOWN)}')
        if 'prompt' not in given and 'messages' not in given:
            raise ValueError('the line has neither prompt nor messages')
        if 'messages' in given:
            given['messages'] = [
                msgspec.convert(each, Message) if _is_whole(each) else each for each in given['messages']
            ]
        return given


def _is_whole(message: Any) -> bool:
    """A message with parts, as `response.messages` are; texts and role/content pairs are taken as they are."""
    return isinstance(message, dict) and isinstance(message.get('content'), list)
