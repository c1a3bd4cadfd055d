"""How feature maps are distributed, and how far apart two distributions are."""
