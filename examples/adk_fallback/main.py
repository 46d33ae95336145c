"""Three questions to the app, the second of which meets a rate limit: whole answers first, then as a stream.

    python examples/adk_fallback/main.py

Needs no key: without GOOGLE_API_KEY (or GEMINI_API_KEY) the local simulator plays Gemini, with a 429 on schedule. The exit code
is 0 when everything was as promised.
"""

import asyncio
import os
import sys
from pathlib import Path

from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.runners import InMemoryRunner
from google.genai import types

from lamella.simulator import Fault, Simulator

sys.path.insert(0, str(Path(__file__).parent))
from agent import BACKUP, PRIMARY, app

QUESTIONS = ('Where is the library?', 'When is it open?', 'And the museum?')
KEYS = ('fallback_triggered', 'original_model', 'fallback_model', 'fallback_attempt', 'error_code')


async def ask(runner: InMemoryRunner, mode: StreamingMode) -> list[dict[str, object]]:
    """Prints the conversation; the metadata of the answers that a fallback gave."""
    session = await runner.session_service.create_session(app_name=app.name, user_id='you')
    notes = []
    for question in QUESTIONS:
        print(f'you     {question}')
        message = types.Content(role='user', parts=[types.Part(text=question)])
        run = runner.run_async(
            user_id='you', session_id=session.id, new_message=message, run_config=RunConfig(streaming_mode=mode)
        )
        async for event in run:
            if event.partial or not event.content:
                continue
            print(f'{event.model_version or "?":18}', ''.join(part.text or '' for part in event.content.parts))
            if note := {key: event.custom_metadata[key] for key in KEYS if key in (event.custom_metadata or {})}:
                notes.append(note)
                print(f'{"":18}', note)
    return notes


async def main() -> int:
    notes = []
    for mode in (StreamingMode.NONE, StreamingMode.SSE):
        print(f'\n── {"a stream" if mode is StreamingMode.SSE else "whole answers"} ──')
        notes.append(await ask(InMemoryRunner(app=app), mode))
    return 0 if all(len(found) == 1 and found[0]['fallback_attempt'] == 1 for found in notes) else 1


def run() -> int:
    if os.environ.get('GOOGLE_API_KEY') or os.environ.get('GEMINI_API_KEY'):
        asyncio.run(main())
        return 0  # the real provider has no schedule
    # The second and the fifth request to the primary model are the second questions of the two conversations.
    limits = [Fault('status', status=429, model=PRIMARY, after=after, times=1) for after in (1, 4)]
    with Simulator(faults=limits).in_thread() as simulator:
        os.environ['GOOGLE_API_KEY'] = 'any'
        os.environ['GOOGLE_GEMINI_BASE_URL'] = simulator.base_url
        code = asyncio.run(main())
        asked = [request.model for request in simulator.requests]
    expected = [PRIMARY, PRIMARY, BACKUP, PRIMARY] * 2
    print(f'\nasked: {", ".join(map(str, asked))}')
    return code if asked == expected else 1


if __name__ == '__main__':
    sys.exit(run())
