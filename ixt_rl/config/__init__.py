"""A run file: its strict schema, YAML and overrides, and every problem of it in one error. No torch."""
