"""Saving: a fit or a comparison in one netCDF file, and back.

The file has ArviZ's groups for every tool that reads netCDF, and a group ``stangmm`` from which
the object is made again to the bit: its fields as JSON, and the numbers of its arrays, packed into
one variable for each type of number.
"""
