"""The host: its devices, processes, limits and settings, and work done in the background. Light."""
