"""The gate before every route of Graft's server: who may reach what (docs/security.md).

A request meets these modules in this order: `origin` (names and pages of its own), `sessions` (who
is signed in), `table` (who may use a route), `clients` and `uploads` (how much at once), and on the
way back the headers of `origin`. `gate.Gate` puts them together.
"""
