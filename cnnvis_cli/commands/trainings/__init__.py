"""What `cnnvis train` does for each kind: what is read, what a step is, how the result is judged."""
