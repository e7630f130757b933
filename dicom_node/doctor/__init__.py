"""What is broken, hop by hop in the order of the flow, and what to do about it.

``finding`` is the vocabulary, ``advice`` the table of what to do, ``examining`` asks
everything at once, each within its time. The other modules hold the questions, each a
function that returns findings and changes nothing: ``places`` (folders, disk),
``stores`` (ledger, broker, workers), ``doors`` (the node's own), ``neighbours``
(DICOM peers), ``services`` (their HTTP), ``keeping`` (what they keep).
"""

from dicom_node.doctor.advice import ADVICE, Advice
from dicom_node.doctor.examining import Check, examine
from dicom_node.doctor.finding import Ailment, Finding, Hop, Mark

__all__ = ["ADVICE", "Advice", "Ailment", "Check", "Finding", "Hop", "Mark", "examine"]
