"""Layers that hold calls to a rate or a number at once."""
