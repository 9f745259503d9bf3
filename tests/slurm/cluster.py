"""A real Slurm of four pretended nodes on this machine, with accounting, in a folder of its own.

Needs root and the programs of tests/debian-packages.txt. Nothing outside of the folder is changed, and all
daemons end with it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NODES = 4
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb", "mariadb-install-db")
PATIENCE_S = 60.0


class Cluster:
    """Four nodes n1 to n4, partitions `low` (preempted by requeueing) and `high`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {**os.environ, "SLURM_CONF": str(base / "slurm.conf")}
        # Paths of sockets must be short.
        self._munge, self._sql = base / "munge.s", base / "sql" / "s"

    def start(self) -> None:
        for name in ("state", "log", "sql", *(f"spool/n{number}" for number in range(1, NODES + 1))):
            (self.base / name).mkdir(parents=True)
        self._start_munge()
        self._ports = free_ports(NODES + 3)
        self._write_configs()
        self.start_accounting()
        self.run("sacctmgr", "-i", "add", "cluster", "atmonr")
        self.run("sacctmgr", "-i", "add", "account", "a", "Description=a", "Organization=a")
        self.run("sacctmgr", "-i", "add", "user", "root", "Account=a")
        self._spawn("slurmctld", "slurmctld", "-D", "-c")
        for number in range(1, NODES + 1):
            self._spawn(f"n{number}", "slurmd", "-D", "-N", f"n{number}")
        until(lambda: self.run("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D").strip() == str(NODES))

    def stop(self) -> None:
        subprocess.run(["scancel", "--user", "root"], env=self.environment, check=False, capture_output=True)
        for name in reversed(list(self._processes)):
            self.end(name)

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def start_accounting(self) -> None:
        if "mariadbd" not in self._processes:
            self._start_database()
        self._spawn("slurmdbd", "slurmdbd", "-D")
        until(lambda: self._answers("sacctmgr", "-n", "show", "cluster"))

    def stop_accounting(self) -> None:
        self.end("slurmdbd")

    def end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _answers(self, *command: str) -> bool:
        done = subprocess.run(command, env=self.environment, capture_output=True, timeout=60)
        return done.returncode == 0

    def _spawn(self, name: str, *command: str) -> None:
        log = open(self.base / "log" / f"{name}.log", "ab")  # noqa: SIM115
        with log:
            self._processes[name] = subprocess.Popen(
                [shutil.which(command[0]) or command[0], *command[1:]],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _start_munge(self) -> None:
        key = self.base / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = [f"--{kind}-file={self.base / f'munge.{kind}'}" for kind in ("key", "pid", "log", "seed")]
        self._spawn("munged", "munged", "--foreground", "--force", f"--socket={self._munge}", *files)
        until(self._munge.exists)

    def _start_database(self) -> None:
        data = self.base / "sql"
        shutil.chown(data, "mysql")
        common = ("--no-defaults", "--user=mysql", f"--datadir={data}")
        self.run("mariadb-install-db", *common, "--auth-root-authentication-method=socket", "--skip-test-db")
        small = ("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=48M")
        careless = ("--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0")
        place = (f"--socket={self._sql}", "--bind-address=127.0.0.1", f"--port={self._ports[0]}")
        self._spawn("mariadbd", "mariadbd", *common, *small, *careless, *place)
        until(lambda: self._answers("mariadb", "--no-defaults", f"--socket={self._sql}", "-e", "select 1"))
        grant = (
            "create database slurm_acct_db;"
            f"create user 'slurm'@'127.0.0.1' identified by '{self._word}';"
            f"create user 'slurm'@'localhost' identified by '{self._word}';"
            "grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';"
            "grant all on slurm_acct_db.* to 'slurm'@'localhost';"
        )
        self.run("mariadb", "--no-defaults", f"--socket={self._sql}", "-e", grant)

    def _write_configs(self) -> None:
        self._word = secrets.token_hex(8)
        host, base = socket.gethostname().partition(".")[0], self.base
        sql, accounting, control, *nodes = self._ports
        (base / "slurmdbd.conf").write_text(
            f"""\
AuthType=auth/munge
AuthInfo=socket={self._munge}
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={accounting}
SlurmUser=root
LogFile={base}/log/slurmdbd.log
PidFile={base}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql}
StorageUser=slurm
StoragePass={self._word}
"""
        )
        (base / "slurmdbd.conf").chmod(0o600)
        (base / "cgroup.conf").write_text("ConstrainCores=no\nConstrainRAMSpace=no\n")
        machine = "\n".join(
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=3000"
            for number, port in enumerate(nodes, start=1)
        )
        # A requeued job may start again at once; accounting keeps quiet about its absence; four daemons
        # share a host.
        (base / "slurm.conf").write_text(
            f"""\
ClusterName=atmonr
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={self._munge},cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmdSpoolDir={base}/spool/%n
StateSaveLocation={base}/state
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd-%n.log
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=200
JobRequeue=1
KillWait=5
MaxArraySize=1001
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
AccountingStoragePass={self._munge}
{machine}
PartitionName=low Nodes=n[1-{NODES}] Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=n[1-{NODES}] MaxTime=60 PriorityTier=100 PreemptMode=OFF
"""
        )


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start a cluster and end it; skip the test where that cannot be."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {missing}; on Debian: make system")
    base = Path(tempfile.mkdtemp(prefix="slurm-"))  # sockets have short names
    base.chmod(0o755)
    made = Cluster(base)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(base, ignore_errors=True)


def until(happens: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    """Wait for something."""
    over = time.monotonic() + within_s
    while not happens():
        if time.monotonic() > over:
            raise AssertionError("did not happen in time")
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
