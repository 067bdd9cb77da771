"""Presets: YAML, each loaded by a test."""
