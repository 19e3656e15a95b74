"""The verbs of the command line, each from a composed configuration to files and a table.

Nothing is imported here: a wrong override is answered before torch is loaded.
"""
