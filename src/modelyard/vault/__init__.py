"""Wheels of environments, kept so that these can be rebuilt after an index has forgotten them."""
