"""Stores that can't run here, served over the wire from memory: requests and replies as their documentation has them."""
