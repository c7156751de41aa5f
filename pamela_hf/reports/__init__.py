"""What all reports share: the page's frame and style, how numbers are written, the charts.

page: the frame and its macros.  style: the style sheet.  numbers: formats.  charts: one SVG kit.
files: report.json and report.html.

May import: metrics, files.
"""
