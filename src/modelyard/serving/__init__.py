"""The data plane: entrances, routing, versions that load, swap and drain."""
