"""Layers that keep a call alive when models fail."""
