"""What an operation of XME consists of: ``python -m benchmarks.profile``."""
