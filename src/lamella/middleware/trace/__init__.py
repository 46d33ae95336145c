"""Layers that tell what happened and never touch the call."""
