"""The entrance for gRPC. Nothing here is imported unless a port for it is asked for."""
