"""Values as bytes and buffers; no locks and no containers of its own."""
