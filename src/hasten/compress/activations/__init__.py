"""Activations on calibration samples: their histograms and means, and what layers read."""
