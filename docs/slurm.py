"""Segments on workers that SLURM starts: python docs/slurm.py IMAGE… --output DIR, with all options of segment.

With ``--job-script`` alone it shows what is handed to SLURM.
"""

from __future__ import annotations

import subprocess
import sys

from dask_jobqueue import SLURMCluster

JOBS = 8
JOB = {
    "cores": 8,  # all for the one process of a job: a block after the other, by eight threads
    "processes": 1,
    "memory": "16GB",
    "walltime": "04:00:00",
    "queue": "normal",
    "job_extra_directives": [],  # such as "--gres=gpu:1"
    "job_script_prologue": [],  # such as "source /path/to/.venv/bin/activate"
}


def main() -> None:
    """Start the workers, segment, and let them go."""
    with SLURMCluster(**JOB) as cluster:
        if sys.argv[1:] == ["--job-script"]:
            print(cluster.job_script())
            return
        cluster.scale(jobs=JOBS)
        command = [sys.executable, "-m", "napari_unet", "segment", *sys.argv[1:]]
        ended = subprocess.run([*command, "--scheduler", cluster.scheduler_address], check=False)
    raise SystemExit(ended.returncode)


if __name__ == "__main__":
    main()
