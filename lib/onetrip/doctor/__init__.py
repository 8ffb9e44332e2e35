"""Checks that find a fault and name its remedy: `python -m lib.onetrip.doctor`. No request imports them."""
