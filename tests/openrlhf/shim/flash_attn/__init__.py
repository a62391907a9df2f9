"""Stands in for flash-attn, which OpenRLHF imports at its top; nothing of it computes attention."""
