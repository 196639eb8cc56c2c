"""The verb export: weights for another library, with all that must be known to feed them."""
