"""The admin of where and how things run; also the runs, since their page shows jobs and why a run waits."""

from django.contrib import admin

from scheduler.admin import dashboard, devices, jobs, nodes, runs

admin.site.index_template = "admin/dashboard.html"

__all__ = ["dashboard", "devices", "jobs", "nodes", "runs"]
