"""The report of an evaluation: its data, tables, comparisons, and its text, CSV and HTML forms."""
