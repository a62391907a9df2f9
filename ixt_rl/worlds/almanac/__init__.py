"""The almanac world."""
