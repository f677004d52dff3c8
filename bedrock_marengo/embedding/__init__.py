"""One media file or many to segments, within a budget."""
