"""The connections of a process: how many there are, who holds them, whether they are alive."""
