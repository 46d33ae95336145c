"""Floor 5, the house inside other houses: one module for each framework or client."""
