"""Rows to train judges and rewriters on."""
