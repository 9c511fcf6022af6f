"""A finished run over HTTP. Only the command `serve` imports FastAPI; `keys` is light."""
