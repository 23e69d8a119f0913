"""Processes, bytes and locks: no values, no pools."""
