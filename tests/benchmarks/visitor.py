"""A person with a browser and a script with a session: asks a lab's pages, and keeps how long each answer took."""

import json
import re
import time
from collections import defaultdict
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

ANSWER_SECONDS = 120.0


class Visitor:
    def __init__(self, url: str, *, password: str, user: str = "admin") -> None:
        self._url = url
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))
        self.seconds: dict[str, list[float]] = defaultdict(list)  # by the name of the page
        self._log_in(user, password)

    def look(self, name: str, path: str) -> None:
        """Raises urllib's HTTPError for a page that is not there or fails."""
        began = time.perf_counter()
        self._get(path)
        self.seconds[name].append(time.perf_counter() - began)

    def ask(self, path: str) -> Any:
        """The JSON of the API; not timed."""
        return json.loads(self._get(path))

    def link(self, path: str, pattern: str) -> str:
        """The first link on a page that is like this; not timed."""
        links: list[str] = re.findall(r'href="([^"?]+)', self._get(path))
        return next(link for link in links if re.search(pattern, link))

    def _log_in(self, user: str, password: str) -> None:
        (token,) = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', self._get("/admin/login/"))[:1]
        given = {"username": user, "password": password, "csrfmiddlewaretoken": token, "next": "/admin/"}
        request = Request(
            f"{self._url}/admin/login/", data=urlencode(given).encode(), headers={"Referer": self._url}
        )
        with self._opener.open(request, timeout=ANSWER_SECONDS) as answer:
            if "/login/" in answer.url:
                raise PermissionError(f"{user} was not let in.")

    def _get(self, path: str) -> str:
        with self._opener.open(f"{self._url}{path}", timeout=ANSWER_SECONDS) as answer:
            return str(answer.read().decode())
