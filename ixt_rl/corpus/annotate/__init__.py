"""A judge scores documents."""
