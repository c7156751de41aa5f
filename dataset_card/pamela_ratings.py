"""Loading script for datasets<4: put it beside the ratings and call

load_dataset("pamela_ratings.py", data_dir="FOLDER_OR_ZIP", trust_remote_code=True)

datasets 4 and later run no scripts: use pamela_hf.ratings.builder.PamelaRatings there. One import a line: datasets
reads them to say which packages are missing.
"""

import datasets

import pamela_hf.ratings.builder


class PamelaRatings(pamela_hf.ratings.builder.PamelaRatings):
    """The same builder, defined here since datasets looks for a class of this very file."""

    VERSION = datasets.Version("1.0.0")
