"""Floor 4, the machine: the app, the run and its loop of turns, tools, streams, interrupts and output."""
