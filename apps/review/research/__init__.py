"""Pages for researchers: runs, representation, positive pairs, cohort."""
