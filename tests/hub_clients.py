"""Code of strangers' processes that talk to a Hub, with and without one that answers."""

from pathlib import Path

TESTS = Path(__file__).parent
ALLOW = ("README.md", "config.json", "*.safetensors", "data/*.json")
# transfer.py needs nothing of the package: without its __init__, which imports torch, a process starts in a second
ALONE = f"""
import sys, types
pamela_hf = sys.modules["pamela_hf"] = types.ModuleType("pamela_hf")
pamela_hf.__path__ = [{str(TESTS.parent / "pamela_hf")!r}]
"""
# a server of its own in the client's process, whose waits are short
SERVED = f"""{ALONE}
import json, os, sys, tempfile
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
from hub_server import FAULTS, TOKEN, HubServer
server = HubServer()
os.environ.update(server.environment(Path(tempfile.mkdtemp())))
import huggingface_hub
from huggingface_hub.utils import _http
import pamela_hf.hub.transfer as hub
hub.FIRST_WAIT = 0.01
_http.time.sleep = lambda seconds, sleep=_http.time.sleep: sleep(min(seconds, .01))
library = sys.modules[hub._HTTPError.__module__.split(".")[0]]
huggingface_hub.set_client_factory(lambda: library.Client(timeout=.2, follow_redirects=True))
server.hang = .3
folder, allow = Path(sys.argv[1]), {ALLOW!r}
"""
# the same with the whole package, whose clients take longer
WHOLE = SERVED.replace(ALONE, "").replace("timeout=.2", "timeout=1").replace("hang = .3", "hang = 1.3")
