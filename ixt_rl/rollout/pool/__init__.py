"""Engines on Ray: all that is Ray's."""
