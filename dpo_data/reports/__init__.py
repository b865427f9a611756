"""What was done and found, for people: pure functions of manifests and reports."""
