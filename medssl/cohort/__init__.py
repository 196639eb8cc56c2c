"""Who is whom: the manifest, labels, splits and draws. Needs no torch."""
