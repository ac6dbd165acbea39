"""HTTP: the V2 protocol translated to the engine."""
