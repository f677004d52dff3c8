"""One asynchronous job: start once, find again, poll, read, delete."""
