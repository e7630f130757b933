"""Which request needs which role: one table, and nothing outside it is open.

A segment in braces is any text without a slash. HEAD is judged as GET. Where no rule
fits, somebody has to say who they are before they are told that there is nothing.
"""

from dataclasses import dataclass

from dicom_node.access import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A route, and who may take it.

    Parameters
    ----------
    path
        As in the table, ``/api/studies/{study}/journal``; it names no study.
    role
        What is needed; None for a route that everybody may take.
    by_session
        Whether a browser's session counts, besides a token. Where it does, the route
        looks for forged requests itself.
    """

    method: str
    path: str
    role: Role | None
    by_session: bool = False

    def fits(self, method: str, path: str) -> bool:
        """Return whether a request is one of this route."""
        own, other = self.path.split("/"), path.split("/")
        if self.method != method or len(own) != len(other):
            return False
        return all(
            bool(b) if a.startswith("{") else a == b
            for a, b in zip(own, other, strict=True)
        )


STUDY = "/api/studies/{study}"
RULES = (
    Rule(method="GET", path="/health", role=None),
    Rule(method="POST", path="/dicom-web/studies", role=Role.SEND),
    Rule(method="POST", path="/dicom-web/studies/{study}", role=Role.SEND),
    Rule(method="GET", path="/api/studies", role=Role.VIEW),
    Rule(method="GET", path=f"{STUDY}/journal", role=Role.VIEW),
    Rule(method="GET", path="/api/deliveries", role=Role.VIEW),
    Rule(method="GET", path="/api/openapi.json", role=Role.VIEW),
    Rule(method="POST", path=f"{STUDY}/complete", role=Role.OPERATE),
    Rule(method="POST", path=f"{STUDY}/retry", role=Role.OPERATE),
    Rule(method="POST", path=f"{STUDY}/conclude", role=Role.OPERATE),
    Rule(method="GET", path="/api/settings", role=Role.ADMINISTER),
    # the page; it asks for a token by itself
    Rule(method="GET", path="/", role=None, by_session=True),
    Rule(method="POST", path="/login", role=None),
    Rule(method="POST", path="/logout", role=None, by_session=True),
    Rule(
        method="POST", path="/page/{study}/complete", role=Role.OPERATE, by_session=True
    ),
    Rule(method="POST", path="/page/{study}/retry", role=Role.OPERATE, by_session=True),
)


def rule_for(method: str, path: str) -> Rule | None:
    """Return the rule that a request falls under, or None."""
    method = "GET" if method == "HEAD" else method
    return next((rule for rule in RULES if rule.fits(method, path)), None)
