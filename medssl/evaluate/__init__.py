"""Statistics of a finished classifier: numbers, intervals, shift; the patient is the unit."""
