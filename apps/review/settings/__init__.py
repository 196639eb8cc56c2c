"""Pages of a reader's own settings: habits and the audit log."""
