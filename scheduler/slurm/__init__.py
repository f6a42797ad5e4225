"""For labs whose devices belong to Slurm: a plan as batch scripts that run without labmgr, and their results back."""
