"""The cases: each module asks one question and names it ``CASE``."""
