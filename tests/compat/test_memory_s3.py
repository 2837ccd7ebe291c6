"""`Memory` on an object store: a local server that speaks S3, in an interpreter of its own, for its threads stay."""

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

PROGRAM = """
import logging, os, sys
os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
import s3fs
from moto.server import ThreadedMotoServer
from fastpar.memory import Memory

logging.disable()
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
options = {"endpoint_url": "http://{}:{}".format(*server.get_host_and_port())}
s3fs.S3FileSystem(**options).mkdir("cache")
memory = Memory("s3://cache/results", verbose=0, backend_options=options, size_limit=100_000)
calls = []

@memory.cache
def compute(x):
    calls.append(x)
    return bytes(30_000) if x else x

assert [compute(0), compute(0)] == [0, 0]
assert calls == [0]
assert compute.explain(0)
assert compute.explain(7).reason == "no call with these arguments is stored; calls with other arguments are"
assert memory.check()
for x in range(1, 6):
    compute(x)
report = memory.check()
assert report and report.n_bytes <= 100_000, report
memory.clear()
assert memory.check().n_entries == 0
print("well", flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_memory_on_s3(python):
    done = python.run("-c", PROGRAM)
    assert done.stdout.endswith("\nwell\n"), done.stderr
