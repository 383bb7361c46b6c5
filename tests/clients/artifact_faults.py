"""Stands in for the artifact process and misbehaves as its first job's id says."""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    task = json.load(sys.stdin)
    for job in task["jobs"]:
        if job["job"] == "hang":
            # Something of its own that would outlive it, as the SDK's core process might.
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            with open(os.environ["TMPDIR"] + "/child.pid", "w") as target:
                target.write(str(child.pid))
            time.sleep(600)
        if job["job"] == "crash":
            os.abort()
        if job["job"] == "garbage":
            print("{half a line", flush=True)
            sys.exit(3)
        if job["job"] == "chatter":
            print("the SDK says something", flush=True)
        error = ""
        if job["job"] == "alone":
            error = _alone(os.environ["TMPDIR"] + "/alone")
        print(
            json.dumps({"job": job["job"], "logged": ["one"], "error": error, "lost": False}),
            flush=True,
        )


def _alone(mark: str) -> str:
    """Be at work for a while; say so where another process is, too."""
    try:
        os.mkdir(mark)
    except FileExistsError:
        return "another process is at it"
    time.sleep(1)
    os.rmdir(mark)
    return ""


if __name__ == "__main__":
    main()
