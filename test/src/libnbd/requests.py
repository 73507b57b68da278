"""Sends requests through libnbd with its own checks switched off, and prints what the server answered.

Usage: requests.py URI < [{"op": "pread", "offset": 0, "bytes": 512, "flags": 0}, ...]
Prints a JSON list: "ok", or the name of the error, such as "EINVAL".
"""

import json
import sys

import nbd


def perform(handle, request):
    op, offset, size, flags = (request[key] for key in ("op", "offset", "bytes", "flags"))
    if op == "pwrite":
        handle.pwrite(bytes(size), offset, flags)
    elif op == "pread":
        handle.pread(size, offset, flags)
    elif op == "flush":
        handle.flush(flags)
    else:
        getattr(handle, op)(size, offset, flags)


def main():
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.set_uri_allow_local_file(True)  # certificates and keys
    handle.connect_uri(sys.argv[1])
    handle.set_strict_mode(0)
    answers = []
    for request in json.load(sys.stdin):
        try:
            perform(handle, request)
            answers.append("ok")
        except nbd.Error as error:
            answers.append(error.errno or str(error))
    print(json.dumps(answers))


main()
