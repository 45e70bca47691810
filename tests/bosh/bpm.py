#!/usr/bin/env python3
"""A stand-in for ``bpm start JOB`` and ``bpm stop JOB``, which does not run here: its container, made by real runc.

It gives a process what bpm's documents say (docs/config.md and docs/runtime.md of
bpm-release): the user vcap with the job's capabilities and no other, read-only
paths, namespaces but that of the network, no new privileges, a system-call filter
without what enters or makes namespaces; and privileged, where the job asks for it.
Of bpm's filter, an allow-list, only what it keeps from a capture is here, as a
deny-list; and there is no tini before the process.

It is copied to ``/var/vcap/jobs/bpm/bin`` of a `tests.bosh.vm.Machine`, and must
not import anything of ours.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

VCAP = Path("/var/vcap")
RUNC = ["runc", "--root", str(VCAP / "data/bpm/runc")]
READABLE = [
    "/bin",
    "/etc",
    "/lib",
    "/lib64",
    "/sbin",
    "/usr",
    "/var/vcap/packages",
    "/var/vcap/data/packages",
]
#: EPERM in bpm's containers.
DENIED = (
    "setns unshare mount umount2 pivot_root chroot ptrace process_vm_readv process_vm_writev bpf perf_event_open"
    " pidfd_open pidfd_getfd pidfd_send_signal open_by_handle_at name_to_handle_at keyctl add_key request_key"
    " init_module finit_module delete_module kexec_load reboot swapon swapoff acct settimeofday clock_settime"
    " userfaultfd"
).split()
#: CLONE_NEWNS and its like, of clone(2).
_NEW_NAMESPACE = (0x20000, *(1 << bit for bit in range(25, 31)))
_ARCHITECTURE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[os.uname().machine]
#: Those of a privileged container of bpm.
NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT"
    " SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL"
    " SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
).split()


def _there_are() -> list[str]:
    """Those of `NAMES` that this machine, which may be a container itself, can give."""
    status = Path("/proc/self/status").read_text()
    bounding = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd"))
    return [name for number, name in enumerate(NAMES) if bounding >> number & 1]


def start(job: str) -> None:
    """Start the job's process, in place of one that died."""
    process = _process(job)
    bundle = VCAP / "data/bpm/bundles" / job
    for directory in (bundle / "rootfs", VCAP / "sys/run/bpm" / job, VCAP / "data/packages"):
        directory.mkdir(parents=True, exist_ok=True)
    subprocess.run([*RUNC, "delete", "--force", f"bpm-{job}"], check=False, stderr=subprocess.DEVNULL)
    user = pwd.getpwnam("vcap")
    for directory in (VCAP / "sys/log" / job, VCAP / "data" / job, VCAP / "data" / job / "tmp"):
        directory.mkdir(parents=True, exist_ok=True)
        os.chown(directory, user.pw_uid, user.pw_gid)
        directory.chmod(0o700)
    (bundle / "config.json").write_text(json.dumps(specification(job, process, user.pw_uid, user.pw_gid)))
    log = VCAP / "sys/log" / job
    with (log / f"{job}.stdout.log").open("ab") as out, (log / f"{job}.stderr.log").open("ab") as err:
        argv = [
            *RUNC,
            "run",
            "--detach",
            "--bundle",
            str(bundle),
            "--pid-file",
            str(_pid_file(job)),
            f"bpm-{job}",
        ]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


def stop(job: str) -> None:
    """TERM, fifteen seconds, QUIT, two seconds, KILL."""
    for name, patience in ((signal.SIGTERM, 15.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 5.0)):
        subprocess.run([*RUNC, "kill", f"bpm-{job}", str(int(name))], check=False)
        end = time.monotonic() + patience
        while time.monotonic() < end and _runs(job):
            time.sleep(0.1)
    subprocess.run([*RUNC, "delete", "--force", f"bpm-{job}"], check=False)
    _pid_file(job).unlink(missing_ok=True)


def specification(job: str, process: dict[str, Any], uid: int, gid: int) -> dict[str, Any]:
    """The container, in the words of the OCI runtime specification."""
    unsafe = process.get("unsafe", {})
    privileged = unsafe.get("privileged", False)
    files = process["limits"].get("open_files", resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    granted = _there_are() if privileged else process.get("capabilities", [])
    own = VCAP / "data" / job
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        _bound("/sys", "ro"),
        *(_bound(path, "ro") for path in READABLE),
        # Where the Python that stands in for its package looks for itself.
        *(_bound(path, "ro") for path in os.environ.get("PYTHON_ALSO_AT", "").split()),
        _bound(str(VCAP / "jobs" / job), "ro"),
        _bound(str(VCAP / "sys/log" / job), "rw", "noexec"),
        _bound(str(own), "rw", "noexec"),
        *({**_bound(str(own / "tmp"), "rw", "noexec"), "destination": at} for at in ("/tmp", "/var/tmp")),
    ]
    for volume in process.get("additional_volumes", []):
        mounts.append(_bound(volume["path"], "rw" if volume.get("writable") else "ro", "noexec"))
    for volume in unsafe.get("unrestricted_volumes", []):
        mounts.append(_bound(volume["path"], "rw" if volume.get("writable") else "ro", "noexec"))
    kinds = ["mount", "ipc", "uts", *([] if unsafe.get("host_pid_namespace") else ["pid"])]
    linux: dict[str, Any] = {"namespaces": [{"type": kind} for kind in kinds]}
    if not privileged:
        linux["seccomp"] = _filter()
        linux["maskedPaths"] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
        linux["readonlyPaths"] = ["/proc/sys", "/proc/irq", "/proc/bus", "/proc/sysrq-trigger"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0} if privileged else {"uid": uid, "gid": gid},
            "args": [process["executable"], *process["args"]],
            "cwd": "/",
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=en_US.UTF-8",
                f"HOME={own}",
                f"TMPDIR={own / 'tmp'}",
                *(f"{key}={value}" for key, value in process.get("env", {}).items()),
            ],
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": files, "soft": files}],
            "capabilities": {
                kind: [f"CAP_{name}" for name in granted]
                for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
            },
            "noNewPrivileges": not privileged,
        },
        "root": {"path": "rootfs"},
        "mounts": mounts,
        "linux": linux,
    }


def _filter() -> dict[str, Any]:
    clones = [
        # One flag each: a clone that asks for any of them.
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": errno.EPERM,
            "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for flag in _NEW_NAMESPACE
    ]
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [_ARCHITECTURE],
        "syscalls": [
            {"names": DENIED, "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
            *clones,
        ],
    }


def _bound(path: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": "bind", "source": path, "options": ["rbind", "nosuid", *options]}


def _process(job: str) -> dict[str, Any]:
    (process,) = json.loads((VCAP / "jobs" / job / "config/bpm.yml").read_text())["processes"]
    assert process["name"] == job
    return dict(process)


def _pid_file(job: str) -> Path:
    return VCAP / "sys/run/bpm" / job / f"{job}.pid"


def _runs(job: str) -> bool:
    state = subprocess.run([*RUNC, "state", f"bpm-{job}"], check=False, capture_output=True, text=True)
    return state.returncode == 0 and json.loads(state.stdout)["status"] == "running"


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]](sys.argv[2])
