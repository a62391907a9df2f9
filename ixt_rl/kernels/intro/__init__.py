"""The InTRO loss: chunks of tokens times tiles of the vocabulary."""
