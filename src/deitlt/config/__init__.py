"""What a configuration may hold: its keys, their types and meanings, and what is said of a wrong one."""
