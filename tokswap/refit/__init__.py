"""Refitting the missing rows of a transplant to a little text, the body of the model frozen."""
