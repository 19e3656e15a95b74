"""The verbs of the command line, a file each: what was typed becomes a call of the rooms below."""
