"""Storms: real processes, killed at random, and witnesses that say whether a promise broke."""
