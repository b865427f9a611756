"""The formats on disk: the prepared folder and its token caches, with one owner for each format."""
