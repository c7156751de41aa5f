"""What people read shows no credential, and processes that need none get none."""

import re
import subprocess
import sys

import numpy as np
import pytest

from pamela_hf.hub.scan import environment_without_secrets, mask_secrets, scan_files

TOKEN = "hf_" + "a1" * 17


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://ann:SECRET@host:8000/v1", "http://***@host:8000/v1"),
        ("https://SECRET@host", "https://***@host"),
        ("http://ann:p@ss@host/v1 failed", "http://***@host/v1 failed"),
        ("http://host/v1?api_key=SECRET&model=x", "http://host/v1?api_key=***&model=x"),
        ("'http://host/?a=1&access_token=SECRET'", "'http://host/?a=1&access_token=***'"),
        ("http://host/v1?X-Amz-Signature=SECRET#top", "http://host/v1?X-Amz-Signature=***#top"),
        (f"refused {TOKEN}.", "refused ***."),
        ("http://host/v1?model=x, ann@example.org", "http://host/v1?model=x, ann@example.org"),
        ("what: stays; as=it is? key=1 \udce9", "what: stays; as=it is? key=1 \udce9"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text, masked):
    assert mask_secrets(text) == masked


def test_a_process_that_needs_no_credential_gets_none(monkeypatch, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "REFINER_API_KEY", "my_password", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = "import os, sys; e = os.environ; print(*[k for k in e if sys.argv[1] in e[k]], e['OMP_NUM_THREADS'])"
    command = [sys.executable, "-c", code, TOKEN]
    seen = subprocess.run(command, env=environment_without_secrets(), capture_output=True, text=True, check=True)
    assert seen.stdout.split() == ["1"]


def test_names_that_pictures_hold_by_chance_are_no_finding(tmp_path):
    names = [f"{a}{b}{c}" for a in "abcd" for b in "aeiou" for c in "lmnr"]  # "ann" among them
    noise = np.random.default_rng(0).bytes(64 << 20)
    (tmp_path / "pictures.dat").write_bytes(noise)
    assert any(re.search(rb"\b%s\b" % name.encode(), noise) for name in names)
    assert scan_files(tmp_path, ["pictures.dat"], private=names) == []
    # in a text, in a small file and as a long word they are
    (tmp_path / "notes.txt").write_text("rated by ann\n")
    (tmp_path / "head.bin").write_bytes(noise[:2000] + b'{"user":"ann"}')
    (tmp_path / "more.bin").write_bytes(noise + b" ann-the-painter ")
    (tmp_path / "header.bin").write_bytes(b'{"__metadata__": {"made by": "ann"}, "row": {}}' + noise)
    files = ["notes.txt", "head.bin", "more.bin", "header.bin"]
    assert [one.file for one in scan_files(tmp_path, files, private=["ann", "ann-the-painter"])] == files
