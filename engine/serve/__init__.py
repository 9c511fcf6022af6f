"""A finished run over HTTP. Light."""
