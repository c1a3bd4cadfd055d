"""Networks that make pictures: stylizers, and what they are built of."""
