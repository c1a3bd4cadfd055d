"""The loop over pictures, and what goes into it: objectives, parameterizations, transforms, regularizers."""
