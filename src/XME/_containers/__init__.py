"""The shared containers: what a user holds of a block of shared memory."""
