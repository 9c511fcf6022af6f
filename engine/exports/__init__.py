"""Exports: a run's model for other programs, each with a certificate. Only its worker is heavy."""
