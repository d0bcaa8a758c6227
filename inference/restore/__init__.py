"""One path from an image to a restored face; every other folder calls it."""
