"""The world of word problems: one step of arithmetic in plain English, for the tokenizer of any model."""
