"""Runs: the folder of each, its events and checkpoints, the queue and the trash. Light."""
