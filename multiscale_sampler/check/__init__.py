"""Is a pyramid what its metadata say: validation, verification, and why levels are as they are."""
