"""Bytes to header rows and pixels; the only room that knows pydicom and nibabel."""
