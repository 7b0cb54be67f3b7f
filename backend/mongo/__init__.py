"""MongoDB: how it is reached, and run where there is none. Only here and in stores is the driver used."""
