"""The second seed's second long example in Python: a factory of layers, called for each request with settings of its own.

`generateMiddleware` is `generate_middleware`, the Zod schema is a pydantic model, and `req`, `ctx`, `next` are `params`, `ctx`,
`next_fn`. What a request carries is never changed in place: `params.replace(…)` makes another.
"""

import asyncio
from uuid import uuid4

from pydantic import BaseModel, Field

from lamella import Lamella, LamellaError
from lamella.middleware import generate_middleware
from lamella.plugins.google_genai import GoogleAI


# Factory enforces strict configuration contracts
class ContextualRetryConfig(BaseModel):
    trace_id: str = Field(min_length=1)
    max_retries: int = Field(default=3, ge=1, le=5)
    backoff_base: float = Field(default=200, ge=100)


@generate_middleware(
    name='contextualRetryInterceptor',
    description='Attaches trace context and retries transient failures',
    config_schema=ContextualRetryConfig,
)
def contextual_retry_interceptor(config):
    async def model(params, ctx, next_fn):
        attempts = 0
        # Inject trace context into request metadata
        started_at = ctx.clock.now()
        metadata = {**params.request.metadata, 'traceId': config.trace_id, 'startedAt': started_at}
        params = params.replace(request=params.request.replace(metadata=metadata))
        while True:
            try:
                response = await next_fn(params, ctx)
            except LamellaError:
                attempts += 1
                if attempts == config.max_retries:
                    raise
                delay = config.backoff_base * 2**attempts * (0.5 + ctx.random.random())
                await ctx.clock.sleep(delay / 1000)
                continue
            latency = ctx.clock.now() - started_at
            facts = {'status': response.finish_reason, 'took': latency > 0}
            print(f'[TRACE:{config.trace_id}] Model call succeeded', facts)
            return response

    # Tool execution is a hook of its own
    async def tool(params, ctx, next_fn):
        print(f'[TRACE:{config.trace_id}] Tool intercepted: {params.tool_request.name}')
        return await next_fn(params, ctx)

    return {'model': model, 'tool': tool}


ai = Lamella(plugins=[GoogleAI(name='google')])


@ai.tool()
def look_up(topic: str) -> str:
    """Look up what is known about a topic."""
    return f'{topic} is specified in RFC 9110.'


async def main() -> None:
    # Usage: Configure per request with full type safety
    response = await ai.generate(
        model='google/gemini-flash-latest',
        prompt='Draft a technical specification. Look up the topic "caching".',
        tools=[look_up],
        use=[
            contextual_retry_interceptor(
                trace_id=f'req-{uuid4()}',
                max_retries=2,
            )
        ],
    )
    print(response.text)
    await ai.aclose()


if __name__ == '__main__':
    asyncio.run(main())
