"""Who may use Graft: users with roles, their sessions, and share links. Light.

All of it is in one SQLite file, GRAFT_HOME/accounts.db, which only its owner can read. A home
without users has no accounts: whoever reaches the pages is then `roles.LOCAL`, an admin, and Graft
listens on loopback only.
"""
