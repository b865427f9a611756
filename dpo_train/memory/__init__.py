"""Memory of the process and of the backward pass."""
