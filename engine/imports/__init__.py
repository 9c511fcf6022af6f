"""Models from elsewhere, taken apart before Keras sees them. Light, but for the worker."""
