"""Nonsense for what reads bytes from outside."""
