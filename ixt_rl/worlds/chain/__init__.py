"""The chain world."""
