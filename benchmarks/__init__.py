"""How fast and how complete: run by documented commands, never timed tests."""
