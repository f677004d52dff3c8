"""Ray: a limit on running jobs that all processes of a cluster share. Extra ``ray``. Unofficial; not by AWS."""

from marengo_ray.job_slots import RayJobSlots

__all__ = ["RayJobSlots"]
