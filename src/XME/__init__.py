"""XME: a table of functions over split arguments on all cores, and state shared in raw shared memory."""
