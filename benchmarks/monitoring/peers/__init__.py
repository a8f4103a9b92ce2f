"""One check of a table by other tools, as their documentation shows it; each runs in an environment of its own."""
