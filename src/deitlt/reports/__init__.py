"""What finished runs found: figures, tables in the terminal, in Markdown and in CSV, and the page.

Nothing is imported here, so that a table is answered before a drawing library is loaded.
"""
