"""Token caches of prepared folders: encoding, truncation, and the format on disk."""
