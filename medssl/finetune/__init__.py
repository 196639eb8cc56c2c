"""From few labels to a classifier: probes, full fine-tuning, and the label-efficiency curve."""
