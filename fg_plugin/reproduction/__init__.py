"""Runs the paper's experiments and compares their results with the paper's numbers."""
