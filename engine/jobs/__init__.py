"""Jobs: runs in a queue and in processes of their own. Light, but for the worker."""
