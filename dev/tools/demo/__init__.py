"""`make demo`: the product's whole story, told on one laptop and then checked value by value."""
