"""How silent, how fast and how soon monitoring is."""
