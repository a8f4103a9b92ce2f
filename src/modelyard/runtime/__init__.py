"""How a version computes: compiled in this process, or native in its own process and environment."""
