"""One city's deployment: its name, time zone, rule profile and intake window, from a YAML preset."""
