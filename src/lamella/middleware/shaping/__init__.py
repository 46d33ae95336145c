"""Layers that change what is asked and how the answer looks."""
