"""Files as such: whole or not at all, and those that travel with the package."""
