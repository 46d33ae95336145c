"""Layers around tool executions."""
