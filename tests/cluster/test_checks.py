"""What is found out before anything runs, and how a cluster is reached."""

from __future__ import annotations

import datetime
import importlib
import ipaddress
import sys
import threading
import time

import pytest

from pcall import ClusterError, Pcall, Plan, run

distributed = pytest.importorskip("distributed", reason="distributed is not installed")


def double(x):
    return 2 * x


def test_an_address_elsewhere_without_tls():
    """It is refused at once, unless the caller says that the network is theirs alone."""
    from pcall.cluster import Cluster

    for address in ("tcp://10.255.255.1:8786", "10.255.255.1:8786", "ws://head:8786"):
        with pytest.raises(ValueError, match="has no TLS"):
            Cluster(address)
    with pytest.raises(ClusterError, match="can't be reached"):
        Cluster("tcp://127.0.0.1:9", insecure=True, connect_timeout=0.5)
    with pytest.raises(TypeError, match="address must be a URL"):
        Cluster(8786)
    with pytest.raises(TypeError, match="preload must be names"):
        Cluster("tcp://127.0.0.1:9", preload="numpy")


def test_the_option_engine_takes_a_cluster():
    """Anything else is refused at once."""
    with pytest.raises(TypeError, match="engine must be a"):
        Pcall.options(engine="tcp://127.0.0.1:8786")
    with pytest.raises(TypeError, match="engine must be a"):
        run(Plan(), engine=3)


def test_an_argument_that_can_not_be_pickled(cluster, tmp_path):
    """The error names the call and the argument, and no call runs."""
    marker = tmp_path / "ran"

    def touch(x, lock=None):
        marker.touch()

    with pytest.raises(TypeError, match=r"\(call 1\): the argument lock = .* can't be sent"):
        Pcall.options(engine=cluster).pcall(touch, x=[0, 1], lock=[None, threading.Lock()])
    assert not marker.exists()


def test_a_function_that_can_not_be_pickled(cluster):
    """The error names the function."""
    lock = threading.Lock()

    def locked(x):
        with lock:
            return x

    with pytest.raises(TypeError, match=r"the function .*locked.* can't be sent"):
        Pcall.options(engine=cluster).pcall(locked, x=[0, 1])


def test_a_module_that_workers_lack(cluster, tmp_path, monkeypatch):
    """The error names the worker and the module."""
    (tmp_path / "only_here.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    triple = importlib.import_module("only_here").triple
    try:
        with pytest.raises(ClusterError, match=r"the worker \d .* No module named 'only_here'"):
            Pcall.options(engine=cluster).pcall(triple, x=[0, 1])
    finally:
        sys.modules.pop("only_here", None)
    assert Pcall.options(engine=cluster).pcall(double, x=[2]) == (4,)


@pytest.mark.parametrize(
    ("versions", "match"),
    [
        ({"python": "3.9"}, "has Python 3.9, and this process"),
        ({"pcall": "0.0.1"}, "has pcall 0.0.1, and this process"),
        ({"pcall": None, "problem": "No module named 'pcall'"}, "can't import pcall"),
        ({"cloudpickle": None}, "can't import cloudpickle"),
    ],
)
def test_unequal_versions(cluster, versions, match):
    """The error names the worker, and what differs."""
    from pcall import __version__

    same = {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "pcall": __version__,
        "cloudpickle": "3",
        "problem": None,
    }
    worker = cluster.workers[0]
    cluster._link._check_versions(worker, worker.address, same)
    with pytest.raises(ClusterError, match=match) as info:
        cluster._link._check_versions(worker, worker.address, {**same, **versions})
    assert worker.address in str(info.value)


def test_await_workers(cluster):
    """At once with exactly so many; settled after a moment; a warning where it is not."""
    begin = time.monotonic()
    assert cluster.await_workers(2) == 2
    assert time.monotonic() - begin < 5
    assert cluster.await_workers() == 2
    assert cluster.await_workers(3, stable_timeout=0.1) == 2
    with pytest.raises(ValueError, match="worker_count must be"):
        cluster.await_workers(0)


def test_preload(cluster):
    """Modules are imported once, before the first call."""
    from pcall.cluster import Cluster

    def is_there():
        return "wave" in sys.modules

    address = cluster._client.scheduler.address
    with Cluster(address, preload=["wave"]) as made:
        assert Pcall.options(engine=made).pcall(is_there) == (True,)


def certificates(folder, name):
    """Make a certificate authority, and a certificate that it has signed."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def make(subject, issuer, key, signer, ca):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.DNSName("localhost"),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
        )
        return builder.sign(signer, hashes.SHA256())

    def called(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = make(called(f"{name} ca"), called(f"{name} ca"), ca_key, ca_key, True)
    own = make(called(name), called(f"{name} ca"), key, ca_key, False)
    pem = serialization.Encoding.PEM
    (folder / f"{name}-ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / f"{name}.pem").write_bytes(own.public_bytes(pem))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    paths = {"cert": f"{folder}/{name}.pem", "key": f"{folder}/{name}.key"}
    roles = {
        f"tls_{role}_{what}": path
        for role in ("client", "scheduler", "worker")
        for what, path in paths.items()
    }
    return distributed.Security(
        tls_ca_file=f"{folder}/{name}-ca.pem", require_encryption=True, **roles
    )


@pytest.fixture
def nothing_left_behind(request):
    """Clusters of a test's own leave threads of dask to the garbage collector."""


@pytest.mark.filterwarnings("ignore")
def test_mutual_tls(tmp_path):
    """A cluster with TLS runs calls; a client with another certificate is refused."""
    from pcall.cluster import Cluster

    mine, foreign = certificates(tmp_path, "mine"), certificates(tmp_path, "foreign")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tls",
        security=mine,
        host="127.0.0.1",
        dashboard_address=":0",
    ) as local:
        address = local.scheduler_address
        assert address.startswith("tls://")
        with Cluster(address, security=mine) as cluster:
            assert Pcall.options(engine=cluster).pcall(double, x=range(4)) == (0, 2, 4, 6)
        with pytest.raises(ClusterError, match="can't be reached"):
            Cluster(address, security=foreign, connect_timeout=1)
        with pytest.raises(ValueError, match="needs security="):
            Cluster(address)
        # A client of dask's own stays open.
        with distributed.Client(local, set_as_default=False) as client:
            with Cluster(client) as cluster:
                assert Pcall.options(engine=cluster).pcall(double, x=[1]) == (2,)
            assert client.status == "running"
