"""A policy's weights on their way to engines."""
