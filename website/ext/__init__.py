"""Small Sphinx extensions of the book, one idea a file."""
