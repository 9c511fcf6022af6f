"""Datasets: where images come from, how they are prepared, divided and curated."""
