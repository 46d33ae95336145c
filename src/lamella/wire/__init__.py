"""Wire protocols: one codec each, for plugins, simulator, gateway and the in-process transport alike."""
