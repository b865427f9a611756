"""Modules of TRL that its tests import."""
