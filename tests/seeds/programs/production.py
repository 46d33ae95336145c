"""The second seed's two configuration templates in Python: the static wrapper and the dynamic interceptor."""

import asyncio
import os
from typing import Literal

from pydantic import BaseModel

from lamella import Lamella, wrap_language_model
from lamella.middleware import BaseMiddleware, generate_middleware
from lamella.plugins.openai import OpenAI


# Static wrapper
class ProductionMiddleware(BaseMiddleware):
    async def transform_params(self, params, ctx):
        infra = {'env': os.environ.get('APP_ENV'), 'region': os.environ.get('AWS_REGION')}
        metadata = {**params.request.metadata, 'infra': infra}
        return params.replace(request=params.request.replace(metadata=metadata))

    async def wrap_model(self, params, ctx, next_fn):
        return await next_fn(params, ctx)

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):  # change, drop or add parts here if needed
            yield part


wrapped_model = wrap_language_model(
    model='openai/gpt-4o',
    middleware=[ProductionMiddleware()],
)


# Dynamic interceptor
class ProductionConfig(BaseModel):
    env: Literal['dev', 'staging', 'prod']
    timeout_ms: float = 30_000


@generate_middleware(name='productionInterceptor', config_schema=ProductionConfig)
def production_interceptor(config):
    async def model(params, ctx, next_fn):
        async with asyncio.timeout(config.timeout_ms / 1000):
            return await next_fn(params, ctx)

    return {'model': model}


ai = Lamella(plugins=[OpenAI()])


async def main() -> None:
    response = await ai.generate(
        model=wrapped_model,
        prompt='Say that all is well.',
        use=[production_interceptor(env='prod')],
    )
    print(response.text)
    try:
        await ai.generate(
            model=wrapped_model,
            prompt='Take your time.',
            use=[production_interceptor(env='prod', timeout_ms=1)],
        )
    except TimeoutError:
        print('the second one took too long')
    await ai.aclose()


if __name__ == '__main__':
    asyncio.run(main())
