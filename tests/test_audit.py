"""The audit never says clean of what it did not ask."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAULT = {"id": "PYSEC-1", "fix_versions": ["2.1"]}
CLEAN = {"name": "good", "version": "1.0", "vulns": []}
FAULTY = {"name": "bad", "version": "2.0", "vulns": [FAULT]}
UNKNOWN = {"name": "new", "skip_reason": "Dependency not found"}

# What the two services answer, the status, and what is said.
ANSWERS = {
    "clean": ({"pypi": [CLEAN]}, 0, "pypi knows of no fault in 1 packages"),
    "faulty": ({"pypi": [CLEAN, FAULTY]}, 1, "bad 2.0: PYSEC-1, mended in 2.1"),
    "one does not answer": ({"osv": [CLEAN, FAULTY]}, 1, "bad 2.0: PYSEC-1, mended in 2.1"),
    "one does not know all": (
        {"pypi": [CLEAN, UNKNOWN], "osv": [CLEAN, CLEAN]}, 0, "osv knows of no fault in 2 packages"
    ),
    "neither answers": (
        {}, 3,
        "the audit was not done: pypi does not answer (ConnectionError: no route); "
        "osv does not answer (ConnectionError: no route)",
    ),
    "neither knows any": (
        {"pypi": [UNKNOWN], "osv": []}, 3,
        "the audit was not done: pypi has no word on 1 of 1 packages; "
        "osv has no word on 0 of 0 packages",
    ),
}  # fmt: skip

PIP_AUDIT = """
import json, os, sys
answers = json.loads(os.environ["ANSWERS"])
service = sys.argv[sys.argv.index("--vulnerability-service") + 1]
if service not in answers:
    sys.exit("Traceback\\nConnectionError: no route")
print(json.dumps({"dependencies": answers[service]}))
"""


@pytest.mark.parametrize("case", ANSWERS)
def test_what_the_audit_says(case: str, tmp_path: Path):
    answers, status, said = ANSWERS[case]
    (tmp_path / "pip_audit.py").write_text(PIP_AUDIT)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "ANSWERS": json.dumps(answers)}
    command = [sys.executable, ROOT / ".ci/audit.py", "some.lock"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, (done.stdout + done.stderr).strip()) == (status, said)
