"""A finished run over HTTP. Only the command `serve` imports it, and FastAPI with it."""
