"""What the products of stages 0 to 3 were made from, and whether they still belong together."""
