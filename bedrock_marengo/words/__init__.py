"""The text of a segment."""
