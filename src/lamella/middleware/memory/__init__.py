"""Layers that remember: what was said before, and whole runs."""
