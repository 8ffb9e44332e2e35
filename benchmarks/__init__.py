"""Measurements beside other designs."""
