"""Units, errors, clock, ids and digests that everything stands on. No I/O but key files; imports nothing of ours."""
