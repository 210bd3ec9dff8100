"""Studies beyond the paper: where generated filters pay, against other networks of equal cost, with one recipe."""
