"""The addition world."""
