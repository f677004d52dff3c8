"""Stores that can't run here, served from memory, with requests and replies as their documentation has them."""
