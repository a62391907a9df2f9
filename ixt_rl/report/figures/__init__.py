"""The figures of a report, by what they draw."""
