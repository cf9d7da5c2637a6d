"""Which trials to make: spaces, samplers, halving, and the search that makes them."""
