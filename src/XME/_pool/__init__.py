"""Execution tables, the workers that claim their rows, and the crew that starts and watches workers."""
