"""What a stage of a run file can be: a file each. Imports no torch."""
