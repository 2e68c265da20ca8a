"""relay-mta: an SMTP relay that gives a rejected job applicant a link of their own.

See README.md for what it does and docs/ for how to run it.
"""

__version__ = "0.1.0"
