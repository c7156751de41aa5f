"""The one place that pushes to and pulls from the Hub. transfer: files in one commit.  scan: secrets,
personal data.  cards: every README.md, from the templates in model_card/ and dataset_card/.

Imports nothing of the package.
"""
