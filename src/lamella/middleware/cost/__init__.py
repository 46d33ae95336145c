"""Layers that count, limit and save money."""
