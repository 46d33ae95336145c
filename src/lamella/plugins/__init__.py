"""Adapters to models, one module for each vendor, and the `Middleware` plugin; `HttpSettings` is how all of them talk HTTP."""

from lamella.plugins._http_settings import HttpSettings

__all__ = ['HttpSettings']
