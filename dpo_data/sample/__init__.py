"""The embedded sample of hh-rlhf-shaped dialogues."""
