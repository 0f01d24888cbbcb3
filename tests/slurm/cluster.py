"""A real SLURM on this machine alone, in a folder: munge, a controller, and several nodes with pretended GPUs.

Needs root (SLURM's daemons run jobs in other users' names) and the programs of Debian's packages slurmctld, slurmd,
slurm-client and munge. Nothing is written outside the folder.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
GPUS = 4

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
MinJobAge=600
KillWait=2
SlurmdTimeout=60
GresTypes=gpu
PropagateResourceLimits=NONE
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=16 RealMemory=64000 \
Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 State=UP
"""
"""Memory is watched, not confined (control groups want a machine of their own). MinJobAge lets squeue tell of finished
jobs for long enough, so that no accounting is needed. Jobs of `urgent` preempt those of `gpu`, which are requeued."""


def unavailable() -> str | None:
    """Why SLURM cannot be brought up here; None where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"SLURM is not installed ({missing[0]} is missing): apt-get install slurmctld slurmd slurm-client munge"
    if os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    return None


class Cluster:
    """SLURM in `folder`; use as a context manager. `environment` is what its clients need."""

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        self.folder, self.nodes = folder, nodes
        self._running: list[subprocess.Popen[bytes]] = []
        wrappers = folder / "bin"
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{wrappers}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def ask(self, *command: str) -> str:
        """Standard output of one of SLURM's commands."""
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout.strip()

    def jobs(self, *states: str) -> dict[str, str]:
        """Jobs in some states (all by default): number → comment, which names Snakemake's rule and wildcards."""
        wanted = ["--states", ",".join(states) or "all"]
        lines = self.ask("squeue", "--noheader", *wanted, "--format", "%A|%k").splitlines()
        return dict(line.split("|", 1) for line in lines if line)

    def _start(self) -> None:
        for name in ("munge", "state", "spool", "dev", "bin"):
            (self.folder / name).mkdir(parents=True, mode=0o755)
        self._authentication()
        self._configuration()
        self._run("slurmctld", "-D", "-c")
        self._wait("the controller", lambda: "UP" in self.ask("scontrol", "ping"))
        for number in range(1, self.nodes + 1):
            (self.folder / "spool" / f"n{number}").mkdir()
            self._run("slurmd", "-D", "-N", f"n{number}")
        idle = ("sinfo", "--noheader", "-N", "-p", "gpu", "-t", "idle", "-o", "%n")
        self._wait("the nodes", lambda: len(self.ask(*idle).splitlines()) == self.nodes)

    def _authentication(self) -> None:
        """A munge daemon with a key and a socket of its own."""
        munge = self.folder / "munge"
        key = munge / "key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o400)
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files)
        self._wait("munge", (munge / "socket").exists)

    def _configuration(self) -> None:
        host = socket.gethostname().partition(".")[0]
        port, *ports = _free_ports(1 + self.nodes)
        fields = {"folder": self.folder, "host": host, "port": port, "nodes": self.nodes, "gpus": GPUS}
        fields |= {"first": ports[0], "last": ports[-1]}
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**fields))
        # Character devices stand for GPUs, so that jobs are given CUDA_VISIBLE_DEVICES; these are further /dev/null.
        for number in range(GPUS):
            os.mknod(self.folder / "dev" / f"gpu{number}", 0o20666, os.makedev(1, 3))
        devices = f"{self.folder}/dev/gpu[0-{GPUS - 1}]"
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[1-{self.nodes}] Name=gpu Flags=nvidia_gpu_env File={devices}\n"
        )
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        # Snakemake's plugin removes SLURM_CONF, as all variables of SLURM, before it calls srun inside a job.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)

    def _run(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}-{len(self._running)}.out").open("wb")
        self._running.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def _wait(self, what: str, ready: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if ready():
                    return
            except subprocess.CalledProcessError:
                pass
            time.sleep(0.05)
        logs = "\n".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.out")))
        raise RuntimeError(f"{what} of SLURM did not come up in {seconds:.0f} s:\n{logs}")

    def _stop(self) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_ports(n: int) -> list[int]:
    """A run of `n` ports that nobody listens on."""
    start = 20000 + os.getpid() % 500 * 20
    while True:
        ports = list(range(start, start + n))
        if all(_is_free(port) for port in ports):
            return ports
        start += n


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
