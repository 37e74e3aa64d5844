"""One module for each measure, named as a recipe names it."""
