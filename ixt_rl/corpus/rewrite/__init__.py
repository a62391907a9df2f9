"""A rewriter improves suffixes, or puts thoughts into documents."""
