"""Arrays: files, folders and arrays in memory, which part each array plays, and the runs that they make."""
