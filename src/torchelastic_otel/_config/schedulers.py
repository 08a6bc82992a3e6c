"""What schedulers' environments tell: which job this is, and attributes of the resource.

A new scheduler gets a row in ``SCHEDULERS``, and where it tells more than the job, a table like ``SLURM``,
which ``resource_attributes`` reads and docs/reference.py prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Variables that are the same on all nodes of a job."""

    job: str
    """The job's id."""
    attempt: str = ""
    """How often the scheduler has restarted it; "" if it does not say."""
    node_mark: str = ""
    """What separates the job's id from a node's number in it; "" if there is no such number."""


SCHEDULERS = (
    Scheduler("SLURM_JOB_ID", "SLURM_RESTART_COUNT"),
    Scheduler("PBS_JOBID"),
    Scheduler("LSB_JOBID"),
    Scheduler("FLUX_JOB_ID"),
    # The nodes of one multi-node job are JOB#0, JOB#1, …
    Scheduler("AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", node_mark="#"),
)
"""The first whose job is set counts."""

# Kubernetes sets nothing of this by itself: the pod's manifest does (downward API), under names of its
# author's choice. These are the usual ones; the first that is set counts.
KUBERNETES = {
    "k8s.pod.name": ("K8S_POD_NAME", "KUBERNETES_POD_NAME", "MY_POD_NAME"),
    "k8s.pod.uid": ("K8S_POD_UID", "KUBERNETES_POD_UID", "MY_POD_UID"),
    "k8s.namespace.name": (
        "K8S_NAMESPACE_NAME",
        "K8S_NAMESPACE",
        "K8S_POD_NAMESPACE",
        "KUBERNETES_NAMESPACE",
        "MY_POD_NAMESPACE",
    ),
    "k8s.node.name": ("K8S_NODE_NAME", "KUBERNETES_NODE_NAME", "MY_NODE_NAME"),
    "k8s.container.name": ("K8S_CONTAINER_NAME",),
    "k8s.job.name": ("K8S_JOB_NAME",),
    "k8s.cluster.name": ("K8S_CLUSTER_NAME",),
}
# Usual as well, but other systems have variables of these names: they count inside of a pod only.
KUBERNETES_IN_A_POD = {
    "k8s.pod.name": ("POD_NAME",),
    "k8s.pod.uid": ("POD_UID",),
    "k8s.namespace.name": ("POD_NAMESPACE", "NAMESPACE"),
    "k8s.node.name": ("NODE_NAME",),
    "k8s.container.name": ("CONTAINER_NAME",),
}
SLURM = {
    "slurm.job.id": ("SLURM_JOB_ID", "SLURM_JOBID"),
    "slurm.job.name": ("SLURM_JOB_NAME",),
    "slurm.job.partition": ("SLURM_JOB_PARTITION",),
    "slurm.cluster.name": ("SLURM_CLUSTER_NAME",),
    "slurm.node.name": ("SLURMD_NODENAME",),
    "slurm.step.id": ("SLURM_STEP_ID", "SLURM_STEPID"),
    "slurm.array.job.id": ("SLURM_ARRAY_JOB_ID",),
    "slurm.array.task.id": ("SLURM_ARRAY_TASK_ID",),
}
SLURM_NUMBERS = {
    "slurm.restart.count": ("SLURM_RESTART_COUNT",),
    "slurm.procid": ("SLURM_PROCID",),
}


def scheduler_job(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the scheduler's (job id, attempt), each "" if the environment does not tell."""
    for scheduler in SCHEDULERS:
        job = environ.get(scheduler.job, "")
        if job:
            job = job.partition(scheduler.node_mark)[0] if scheduler.node_mark else job
            return job, environ.get(scheduler.attempt, "") if scheduler.attempt else ""
    return "", ""
