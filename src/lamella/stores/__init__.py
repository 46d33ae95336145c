"""Floor 2, the stores: state in memory, SQLite, Redis or Postgres, behind one set of ports."""

from lamella.core.stores import StoreWarning, open_store

__all__ = ['StoreWarning', 'open_store']
