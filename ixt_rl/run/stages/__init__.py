"""What each kind of stage does: a block and a model in, files in a stage folder out."""
