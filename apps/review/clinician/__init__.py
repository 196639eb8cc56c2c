"""Pages for those who read cases."""
