"""Floor 2, the stores: state in memory, SQLite, Redis or Postgres, behind one set of ports."""
