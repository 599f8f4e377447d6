"""Hypernetworks: networks that predict the rows of any token from the base's own rows."""
