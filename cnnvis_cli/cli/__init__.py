"""Words in, words out: the Typer app and what it prints about itself."""
