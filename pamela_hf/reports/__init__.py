"""What all reports share: the page's frame and style, number formats, charts.

May import: metrics, files.
"""
