"""What Train and Runs share: views of a run and actions on it."""
