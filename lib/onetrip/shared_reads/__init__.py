"""Reads of many requests, under way on the same few connections."""
