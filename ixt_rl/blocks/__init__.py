"""The blocks of a run file, by subject. Imports no torch."""
