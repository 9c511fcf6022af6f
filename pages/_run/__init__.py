"""A run, shown and acted upon: shared by Train and Runs."""
