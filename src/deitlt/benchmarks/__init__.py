"""What `deitlt benchmark` measures, one part a file."""
