"""A network as it is looked at: layers, activations, folding, other borders and pools."""
