"""Media files opened with PyAV: containers, durations, frames and clips."""
