"""What in a picture an answer rests on."""
