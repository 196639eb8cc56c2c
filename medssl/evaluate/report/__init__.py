"""The report: a page, a PDF, tables, a card and a checked JSON, from one dictionary."""
