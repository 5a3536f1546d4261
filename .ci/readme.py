"""Write the shell blocks of a README as scripts, with long runs shortened.

python .ci/readme.py README.md FOLDER
"""

import pathlib
import re
import sys

SHORTER = {
    r"expectax train(?=\s|$)": "expectax train --steps 300",
    r"(expectax reproduce [\w-]+)": r"\1 --quick",
}


def main(readme: str, folder: str) -> None:
    out = pathlib.Path(folder)
    out.mkdir(parents=True)
    blocks = re.findall(r"^```sh\n(.*?)^```", pathlib.Path(readme).read_text(), re.S | re.M)
    if len(blocks) < 2:
        sys.exit(f"{readme} has {len(blocks)} shell blocks; it must have its two commands")
    for number, block in enumerate(blocks):
        for pattern, shorter in SHORTER.items():
            block = re.sub(pattern, shorter, block)
        (out / f"{number:02d}.sh").write_text(block)


if __name__ == "__main__":
    main(*sys.argv[1:])
