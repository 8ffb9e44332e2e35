"""Packages of the application for each platform, and the tools that build them."""
