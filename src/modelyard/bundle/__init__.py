"""Pack a pipeline: schema, golden set, compiled form, environment, code; open it safely; prove parity."""
