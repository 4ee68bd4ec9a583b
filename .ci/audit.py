"""Report known vulnerabilities of the installed packages, and how many could not be checked.

`pip-audit` alone prints "No known vulnerabilities found" even if it skipped every package.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]
SHOWN = 3  # reasons why packages were not checked


def main() -> None:
    """Run pip-audit, and print each finding and how many packages were checked."""
    process = subprocess.run(COMMAND, capture_output=True, text=True)
    try:
        packages = json.loads(process.stdout)["dependencies"]
    except (ValueError, KeyError):
        sys.stderr.write(process.stderr)
        sys.exit(f"error: pip-audit ended with {process.returncode} and no report")
    skipped = [package for package in packages if "skip_reason" in package]
    findings = [(package, found) for package in packages for found in package.get("vulns", [])]
    lines = [f"{package['name']} {package['version']}: {found['id']}" for package, found in findings]
    lines.append(f"{len(packages) - len(skipped)} packages checked: {len(findings)} known vulnerabilities")
    if skipped:
        lines.append(f"{len(skipped)} packages not checked, for instance:")
    lines += [f"  {package['name']}: {package['skip_reason']}" for package in skipped[:SHOWN]]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
