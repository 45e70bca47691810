"""What stands in the place of authorities, for tests of pcapctl's logins without a network."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Dict, List, NamedTuple, Optional

from pcapd.ctl.login.fetch import Answer

__all__ = ["Request", "Web", "access", "answer"]


class Request(NamedTuple):
    """What was asked, and whose question it was."""

    url: str
    authorization: Optional[str]


class Web:
    """What there is to be reached, in the place of the client that reaches it (`pcapd.ctl.login.fetch.Client`).

    Args:
        answers: By URL without the query; of several the last one stays.

    Attributes:
        asked: The questions, in order.
    """

    def __init__(self, answers: Dict[str, List[Answer]]) -> None:
        self.answers = answers
        self.asked: List[Request] = []

    def __call__(self, *_: Any, **__: Any) -> Web:
        return self

    def get(self, url: str, token: Optional[str] = None) -> Answer:
        return self._answer(url, token)

    def post(self, url: str, form: str, authorization: Optional[str]) -> Answer:
        return self._answer(url, authorization)

    def _answer(self, url: str, authorization: Optional[str]) -> Answer:
        self.asked.append(Request(url, authorization))
        answers = self.answers[url.partition("?")[0]]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def times(self, url: str) -> int:
        """How often it was asked for."""
        return sum(asked.url == url for asked in self.asked)


def answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """An answer with JSON, or with bytes as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Answer(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def access(seconds: float = 3600.0) -> str:
    """An access token that ends so much later; nobody signed it."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + seconds}).encode()).decode()
    return f"head.{claims.rstrip('=')}.signature"
