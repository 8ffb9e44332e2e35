"""Tests of an application: a database for each test, a client, and a budget of round trips."""
