"""The prepared folder: its format on disk, with one module for each part."""
