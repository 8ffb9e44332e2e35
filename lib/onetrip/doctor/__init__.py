"""Says what is wrong and what to do about it: `python -m lib.onetrip.doctor`. No request ever imports it."""
