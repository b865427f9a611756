"""Raw files in any format, read in chunks of rows with their physical positions."""
