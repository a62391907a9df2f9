"""The thoughts world."""
