"""Sheets: spreadsheets that people upload, read row by row into events.

grids reads the file, fields and matching say what its columns are, rows makes events of its rows;
uploads is the noun, turns carries an upload out.
"""
