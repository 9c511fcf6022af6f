"""Models from elsewhere, checked before Keras sees them. Light except for the worker."""
