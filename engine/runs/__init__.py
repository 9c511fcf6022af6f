"""Runs: their folders, events and checkpoints, the queue and the trash. Light."""
