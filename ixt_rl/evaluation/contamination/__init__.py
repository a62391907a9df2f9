"""Whether a benchmark's questions were seen: their words in training files, and what a model knows of them by heart."""
