"""Who you are and what you may do: organizations, members, sessions, keys, roles, the guard."""
