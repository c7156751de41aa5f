"""Files of this machine, read and written in one way each. Imports nothing of the package.

writing: files and folders whole or not at all, locks, the claim of a run's folder.  images: pictures from anywhere,
opened safely.  arrays, downloads: from arrays and tensors, from addresses.  folders: which images a folder holds.
csv: tables as spreadsheets write them.  escaping: texts for terminals and spreadsheets.  config: YAML and `key=value`.
locations: where a model is loaded from.  hashing: a file's hash, on every supported Python.
"""
