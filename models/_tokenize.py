"""Token ids as onnxruntime-genai gives them, in a process of its own: its tokenizer crashes on some files.

Reads {"folder": …, "texts": […]} from stdin and writes the list of lists of ids to stdout.
"""

import json
import sys

import onnxruntime_genai as genai

if __name__ == "__main__":
    request = json.load(sys.stdin)
    try:
        tokenizer = genai.Tokenizer(request["folder"])
        ids = [tokenizer.encode(text).tolist() for text in request["texts"]]
    except RuntimeError as error:
        sys.exit(str(error))
    json.dump(ids, sys.stdout)
