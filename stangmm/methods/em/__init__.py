"""EM in numpy: steps, algebra, rows in groups, restarts, and what to do without a maximum."""
