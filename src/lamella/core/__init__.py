"""Floor 1, the rules: the layer contract, the stack, the context and the ports."""
