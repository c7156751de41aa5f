"""A photo library as a taste: its star ratings, read wherever programs keep them, and predictions written back.

xmp: one XMP packet, read safely and changed byte by byte.  embedded: metadata inside picture files, without pixels.
takeout, apple: favourites of Google Photos and Apple Photos.  stars: what all of these say about one photo.
library: the photos of a folder, RAW and JPEG as one.  write_back: sidecars beside originals, which stay as they are.
taste: library to head, ranking and report.  suggest: what to star next.  page: their pages.
held_out: how well the head predicts stars that it has not seen.
"""
