"""Conversion of raw rows to a prepared folder: rows -> source -> pairing -> checks -> prepared and quarantine."""
