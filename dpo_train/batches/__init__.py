"""From token ids to batches: padded, packed, and one optimizer step at a time."""
