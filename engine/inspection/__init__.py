"""Inspection: what is wrong with a dataset, and what decisions about it are worth."""
