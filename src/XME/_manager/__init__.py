"""What XMEManager is made of: the ring of calls, their buffer, beats, the guard's loop."""
