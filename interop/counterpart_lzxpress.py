"""XPRESS as dissect.util reads it: each line of standard input is one chunk in hexadecimal digits without its header; prints what it holds, in digits too."""

import sys

from dissect.util.compression import lzxpress

for line in sys.stdin:
    print(lzxpress.decompress(bytes.fromhex(line)).hex())
