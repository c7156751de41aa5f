"""What people read shows no credential, and processes that need none get none."""

import subprocess
import sys

import pytest

from pamela_hf.hub.scan import environment_without_secrets, mask_secrets

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
