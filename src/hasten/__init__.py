"""Make a trained model fast where it runs, and prove it by measuring."""
