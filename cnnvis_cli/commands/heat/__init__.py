"""Heat maps over pictures: what `saliency` and `occlude` draw and measure of them."""
