"""The command line of dpo-data."""
