"""What a recipe will take on this host, and which recipe and rate suit. Light, but for the workers."""
