"""What every printed sheet needs, whoever draws it: fonts that travel inside the file, and texts that fit."""
