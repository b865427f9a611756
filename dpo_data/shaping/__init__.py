"""Steps from prepared folders to prepared folders, one module for each.

A step selects from a sequence of rows: those of one folder, those of one folder with some of them changed, or those of
a mix. It decides what becomes of each row, and then writes the rows in one pass; neither needs memory for the rows.
"""
