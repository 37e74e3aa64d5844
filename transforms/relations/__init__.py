"""Columns that compare survivors: one module for each relation, named as filters name it."""
