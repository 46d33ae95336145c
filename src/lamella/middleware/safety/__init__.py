"""Layers that keep out what must not get in, and in what must not get out."""
