"""DPOTrainer and its parts."""
