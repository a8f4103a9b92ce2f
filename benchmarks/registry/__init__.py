"""How fast a large registry answers."""
