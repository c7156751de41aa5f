"""The one place that pushes to and pulls from the Hub. transfer: files in one commit.  scan: secrets, personal data.

Imports nothing of the package.
"""
