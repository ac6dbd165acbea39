"""Tuning: the space of candidates, the race between them, and the plan that wins."""
