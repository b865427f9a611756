"""Terminal output of dpo-data, one module per command."""
