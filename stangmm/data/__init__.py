"""Data: the user's table, checked once; rows in groups; files in, frames out."""
