"""Train a version again from its record, and say how what comes of it compares with what there is."""
