"""Arrays in, numbers with intervals out. The patient is the unit; needs no torch."""
