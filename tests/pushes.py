"""What the tests of publishing share: people with names to look for, and pushes by the command line."""

import base64
import gzip
import json

CLI = """
import json, sys
from pamela_hf.cli import main
for arguments in json.loads(sys.argv[1]):
    main(["push", *arguments])
"""


PEOPLE = ["Zoë-Canary77", "alice.canary", "Bob_Canary"]


def assert_absent(words, files: dict[str, bytes]) -> None:
    everything = published_bytes(files)
    for word in words:
        raw = word.encode()
        forms = {raw, json.dumps(word)[1:-1].encode(), base64.b64encode(raw).rstrip(b"=")[:-1]}
        for form in forms:
            assert form not in everything, word


def published_bytes(files: dict[str, bytes]) -> bytes:
    """All that was pushed, and what its gzip streams hold."""
    out = b""
    for content in files.values():
        out += content
        place = content.find(b"\x1f\x8b\x08")
        while place >= 0:
            try:
                out += gzip.decompress(content[place:])
            except (OSError, EOFError):
                pass
            place = content.find(b"\x1f\x8b\x08", place + 1)
    return out
