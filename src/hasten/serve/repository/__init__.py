"""What may be served: bundles, model files and Triton repositories, read from disk."""
