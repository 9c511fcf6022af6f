"""The host: devices, processes, limits, settings and background jobs. Light."""
