"""Many fits: of several methods, of several numbers of components, and their average."""
