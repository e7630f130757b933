"""The audit trail of PS3.15 A.5: to a file that is durable, then to a collector.

::

    note ──► trail ──► messages ──► folder ──► collector ──► syslog over TLS
    (any     (a thread  (pure: an    (lines,    (a thread that reads the
    thread)  that       event as     fsynced)   folder behind a cursor)
             writes)    XML)

What the events are stands in `dicom_node.domain.audited`, what is written when in
``docs/audit.md``.
"""
