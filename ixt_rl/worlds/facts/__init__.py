"""The facts world."""
