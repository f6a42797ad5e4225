"""Where the tests live: a home of their own, named before Django reads its settings. Import it first, and once."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import django
from django.conf import settings

_lab_home = Path(os.environ.get("LABMGR_HOME") or Path(__file__).resolve().parent.parent / "var")
HOME = Path(tempfile.mkdtemp(prefix="labmgr-tests-"))
(HOME / "static").mkdir()
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ.setdefault("LABMGR_ML_PYTHON", str(_lab_home / "env" / "ml" / "bin" / "python"))
os.environ["LABMGR_HOME"] = str(HOME)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labmgr.settings")
django.setup()
settings.PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher"
]  # the real one takes half a second
