"""The second seed's first long example in Python: layers fixed on a model, once, and the model reused everywhere.

`transformParams`, `wrapGenerate` and `wrapStream` are `transform_params`, `wrap_model` and `wrap_stream`. A layer holds nothing
of a request, so that one instance serves all of them.
"""

import asyncio

from pydantic import BaseModel, Field

from lamella import Lamella, LamellaError, wrap_language_model
from lamella.middleware import BaseMiddleware
from lamella.plugins.anthropic import Anthropic

MAX_RETRIES = 3


class TraceRetryConfig(BaseModel):
    trace_id: str = Field(min_length=1)


class TraceRetry(BaseMiddleware[TraceRetryConfig]):
    async def transform_params(self, params, ctx):
        # Attach trace context before execution
        note = {'traceId': self.config.trace_id, 'timestamp': ctx.clock.time()}
        metadata = {**params.request.metadata, 'traceRetry': note}
        return params.replace(request=params.request.replace(metadata=metadata))

    async def wrap_model(self, params, ctx, next_fn):
        attempts = 0
        while True:
            try:
                result = await next_fn(params, ctx)
            except LamellaError:
                attempts += 1
                if attempts == MAX_RETRIES:
                    raise
                await ctx.clock.sleep(2**attempts * 0.1)
                continue
            print(f'[TRACE:{self.config.trace_id}] Generate success', {'tokens': result.usage.total_tokens})
            return result

    async def wrap_stream(self, params, ctx, next_fn):
        chunk_count = 0
        async for part in next_fn(params, ctx):
            chunk_count += 1
            yield part
        print(f'[TRACE:{self.config.trace_id}] Stream completed', {'chunks': chunk_count})


# Usage: Wrap once, reuse everywhere
traced_model = wrap_language_model(
    model='anthropic/claude-sonnet-4.5',
    middleware=TraceRetry(trace_id='infra-001'),
)

ai = Lamella(plugins=[Anthropic()])


async def main() -> None:
    response = await ai.generate(model=traced_model, prompt='Explain quantum entanglement.')
    print(response.text)

    stream = ai.generate_stream(model=traced_model, prompt='Explain quantum entanglement.')
    print(''.join([piece async for piece in stream.text_stream]))
    await ai.aclose()


if __name__ == '__main__':
    asyncio.run(main())
