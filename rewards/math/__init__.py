"""Mathematical answers: extracted, read into types, compared, and judged in child processes where it takes more."""
