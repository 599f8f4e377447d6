"""Training of a hypernetwork: tokenizers sampled on the fly, through a frozen base."""
