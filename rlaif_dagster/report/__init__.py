"""The report: one HTML file a grid cell that says what was gained, what was lost, and where each number comes from.

`evidence` measures, `verdict` says it in a sentence, `tables` and `plots` show it, `build` puts the page together.
"""
